"""`comitia roll import`: every row told what became of it, gone on with after an interruption, harmless twice."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from comitia import roll_import
from comitia.roll import app
from comitia.roll_import import OtherReportError, RollImport
from comitia.stack.state import StackState
from domain.accounts import ClaimState, claiming_cell
from domain.eligibility import Asked, VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_person_id, new_survey_id, new_voter_id
from domain.proofing import Document
from domain.rolls import RollOutcome
from domain.tokens import Assurance
from integrations.keys.file_kms import FileKms
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import DOCUMENT
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.directory import Directory
from integrations.postgres.document_claims import PostgresDocumentClaims
from integrations.postgres.roles import IDENTITY, ROLLS
from integrations.postgres.rolls import NamedPerson, PostgresRolls
from tests.claimants import claim_everywhere, release_everywhere
from tests.conftest import OwnerPool, SettingsFor
from tests.integrations.postgres.conftest import pools_of


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pools(settings_for: SettingsFor) -> AsyncIterator[dict[str, asyncpg.Pool]]:
    """Of whoever knows voters."""
    async with pools_of(settings_for, IDENTITY) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rolls(settings_for: SettingsFor) -> AsyncIterator[dict[str, asyncpg.Pool]]:
    """Of whoever imports rolls."""
    async with pools_of(settings_for, ROLLS) as found:
        yield found


@pytest.fixture
def data(servers: StackState, tmp_path: Path) -> Path:
    """The folder of a stack: these servers, keys of its own."""
    servers.model_copy(update={"folder": tmp_path}).write()
    return tmp_path


@pytest.fixture
def hashes(tmp_path: Path) -> KeyedLookupHashes:
    return KeyedLookupHashes(FileKms(tmp_path / "keys", frozenset({DOCUMENT})))


class Interrupted(PostgresRolls):
    """Fails at the third chunk, when its work is done and not told."""

    chunks = 0

    async def enrol_persons(self, survey_id: str, person_ids: Sequence[str], actor: str) -> frozenset[str]:
        self.chunks += 1
        done = await super().enrol_persons(survey_id, person_ids, actor)
        if self.chunks == 3:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        return done


def importing(rolls: dict[str, asyncpg.Pool], hashes: KeyedLookupHashes, survey: str) -> RollImport:
    return RollImport(
        {cell: PostgresRolls(pool) for cell, pool in rolls.items()}, hashes, survey, "eu", "comitia:tests"
    )


def passport() -> Document:
    return Document("DEU", "passport", secrets.token_hex(5).upper())


async def on_roll(owner_pool: OwnerPool, survey: str, cell: str = "eu") -> set[str]:
    rows = await (await owner_pool(cell)).fetch("SELECT person_id FROM identity.roll WHERE survey_id = $1", survey)
    return {row["person_id"] for row in rows}


def outcomes(report: Path) -> list[tuple[str, ...]]:
    title, columns, *rows = report.read_text().splitlines()
    assert title.startswith("# survey=")
    assert columns == "row,line,outcome,cell"
    return [tuple(row.split(",")) for row in rows]


async def test_a_list_of_voters_and_documents_is_imported_row_by_row(
    data: Path, pools: dict[str, asyncpg.Pool], owner_pool: OwnerPool, hashes: KeyedLookupHashes
) -> None:
    survey, document, unknown, registered = new_survey_id(), passport(), new_voter_id("us"), new_voter_id("eu")
    (european,) = await Directory(pools["eu"], "eu").create_voters(1, "DE")
    (american,) = await Directory(pools["us"], "us").create_voters(1, "NY", status=VoterStatus.SUSPENDED)
    await PostgresAccounts(pools["eu"], "eu").open(registered, "DE", {})
    source = data / "roll.csv"
    source.write_bytes(
        b"\xef\xbb\xbfvoter_id,country,kind,number,name\r\n"
        + f"{european},,,,\r\n{american},,,,Anna\r\n{european},,,,\r\n".encode()
        + f',{document.country},{document.kind},{document.number},"Eva\r\nSchmidt"\r\n'.encode()
        + f",{document.country.lower()},Passport,{document.number[:3]}-{document.number[3:]},\r\n".encode()
        + f"{unknown},,,,\r\n{registered},,,,\r\nv_mars_{'a' * 26},,,,\r\nsomebody,,,,\r\n,,,,\r\n".encode()
        + b",DEU,passport,C\xff01,\r\n"
    )
    arguments = ["import", str(source), "--survey", survey, "--cell", "eu", "--data", str(data)]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 1, result.stderr
    told = [
        ("1", "2", "enrolled", "eu"),
        ("2", "3", "enrolled", "us"),
        ("3", "4", "already_enrolled", "eu"),
        ("4", "6", "enrolled", "eu"),
        ("5", "7", "already_enrolled", "eu"),
        ("6", "8", "unknown_voter", "us"),
        ("7", "9", "not_proofed", "eu"),
        ("8", "10", "unknown_cell", "mars"),
        ("9", "11", "malformed", ""),
        ("10", "12", "malformed", ""),
        ("11", "13", "malformed", ""),
    ]
    report = data / "roll.csv.report"
    assert outcomes(report) == told
    assert set(result.stdout.splitlines()) >= {"enrolled 3", "already_enrolled 2", "malformed 3"}
    assert document.number not in report.read_text() + result.stdout + result.stderr
    assert (len(await on_roll(owner_pool, survey)), len(await on_roll(owner_pool, survey, "us"))) == (2, 1)
    again = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert (again.exit_code, again.stdout) == (1, result.stdout)
    assert outcomes(report) == told
    notes = await (await owner_pool("eu")).fetch(
        "SELECT change, reason FROM identity.change WHERE subject = $1", survey
    )
    assert [tuple(note) for note in notes] == [("roll_enrolled", "persons=1")] * 2


async def test_who_registers_after_the_import_is_on_the_roll(
    data: Path,
    pools: dict[str, asyncpg.Pool],
    rolls: dict[str, asyncpg.Pool],
    owner_pool: OwnerPool,
    hashes: KeyedLookupHashes,
) -> None:
    survey, document, voter = new_survey_id(), passport(), new_voter_id("eu")
    source, claims = data / "roll.csv", {cell: PostgresDocumentClaims(pool) for cell, pool in pools.items()}
    source.write_text(f"country,kind,number\n{document.country},{document.kind},{document.number}\n")
    await importing(rolls, hashes, survey).run(source, data / "report")
    versions = await hashes.document(document)
    elsewhere = await claim_everywhere(claims, versions, new_person_id(), "us", new_voter_id("us"))
    assert elsewhere.state is ClaimState.ELSEWHERE
    claim = await claim_everywhere(claims, versions, new_person_id(), "eu", voter)
    assert claim.state is ClaimState.GRANTED
    accounts = PostgresAccounts(pools["eu"], "eu")
    await accounts.open(voter, "DE", {})
    assert await accounts.activate(voter, claim.person_id, Assurance.SUBSTANTIAL, 18)
    assert await on_roll(owner_pool, survey) == {claim.person_id}
    (candidate,) = await Directory(pools["eu"], "eu").candidates([Asked(voter, survey)])
    assert candidate is not None
    assert candidate.on_roll


async def test_a_registration_that_fails_does_not_take_the_name_along(
    data: Path,
    pools: dict[str, asyncpg.Pool],
    rolls: dict[str, asyncpg.Pool],
    owner_pool: OwnerPool,
    hashes: KeyedLookupHashes,
) -> None:
    survey, document, voter = new_survey_id(), passport(), new_voter_id("eu")
    source, claims = data / "roll.csv", {cell: PostgresDocumentClaims(pool) for cell, pool in pools.items()}
    source.write_text(f"country,kind,number\n{document.country},{document.kind},{document.number}\n")
    versions = await hashes.document(document)
    claim = await claim_everywhere(claims, versions, new_person_id(), "eu", voter)
    await importing(rolls, hashes, survey).run(source, data / "report")
    await release_everywhere(claims, versions, voter)
    again = await claim_everywhere(claims, versions, new_person_id(), "eu", new_voter_id("eu"))
    assert again.person_id == claim.person_id
    assert await on_roll(owner_pool, survey) == {claim.person_id}


async def test_a_document_whose_claims_name_two_persons_is_told_and_puts_nobody_on_the_roll(
    data: Path, rolls: dict[str, asyncpg.Pool], owner_pool: OwnerPool
) -> None:
    keys, survey, document = FileKms(data / "keys", frozenset({DOCUMENT})), new_survey_id(), passport()
    await keys.current(DOCUMENT)
    await keys.rotate(DOCUMENT)
    hashes = KeyedLookupHashes(keys)
    for version in await hashes.document(document):
        claims = PostgresRolls(rolls[claiming_cell(version.digest, tuple(rolls))])
        await claims.name_persons([(version, NamedPerson(new_person_id(), "eu"))])
    source, report = data / "roll.csv", data / "report"
    source.write_text(f"country,kind,number\n{document.country},{document.kind},{document.number}\n")
    assert await importing(rolls, hashes, survey).run(source, report) == {RollOutcome.CONTRADICTED: 1}
    assert await on_roll(owner_pool, survey) == set()


@pytest.fixture
def chunks_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_import, "CHUNK", 10)


@pytest.mark.usefixtures("chunks_of_ten")
async def test_an_import_that_was_interrupted_goes_on(
    data: Path,
    rolls: dict[str, asyncpg.Pool],
    owner_pool: OwnerPool,
    hashes: KeyedLookupHashes,
) -> None:
    survey, source, report = new_survey_id(), data / "roll.csv", data / "report"
    documents = [passport() for _ in range(35)]
    rows = "".join(f"{document.country},{document.kind},{document.number}\n" for document in documents)
    source.write_text("country,kind,number\n" + rows)
    stopping = {"eu": Interrupted(rolls["eu"]), "us": PostgresRolls(rolls["us"])}
    failing = RollImport(stopping, hashes, survey, "eu", "comitia:tests")
    with pytest.raises(DomainError):
        await failing.run(source, report)
    assert len(outcomes(report)) == 20
    with report.open("a") as torn:
        torn.write("21,22,enr")
    counted = await importing(rolls, hashes, survey).run(source, report)
    assert counted == {RollOutcome.ENROLLED: 25, RollOutcome.ALREADY_ENROLLED: 10}
    assert [row[0] for row in outcomes(report)] == [str(number) for number in range(1, 36)]
    assert {row[2:] for row in outcomes(report)} == {("enrolled", "eu"), ("already_enrolled", "eu")}
    assert len(await on_roll(owner_pool, survey)) == 35


@pytest.mark.usefixtures("chunks_of_ten")
async def test_a_list_is_read_as_it_is_imported_and_what_came_before_a_broken_row_is_told(
    data: Path,
    rolls: dict[str, asyncpg.Pool],
    owner_pool: OwnerPool,
    hashes: KeyedLookupHashes,
) -> None:
    survey, source, report = new_survey_id(), data / "roll.csv", data / "report"
    rows = "".join(f"DEU,passport,{secrets.token_hex(5)}\n" for _ in range(25))
    source.write_text("country,kind,number\n" + rows + '"DEU,passport,never closed\n' + "x" * 200_000)
    with pytest.raises(ValueError, match="follows line 26 is no row"):
        await importing(rolls, hashes, survey).run(source, report)
    assert [(row[0], row[2]) for row in outcomes(report)] == [(str(n), "enrolled") for n in range(1, 21)]
    assert len(await on_roll(owner_pool, survey)) == 20


async def test_imports_of_one_list_at_once_come_to_one_roll(
    data: Path, rolls: dict[str, asyncpg.Pool], owner_pool: OwnerPool, hashes: KeyedLookupHashes
) -> None:
    survey, source = new_survey_id(), data / "roll.csv"
    rows = [f"DEU,passport,{secrets.token_hex(5)}\n" for _ in range(40)]
    source.write_text("country,kind,number\n" + "".join(rows))
    (data / "backwards.csv").write_text("country,kind,number\n" + "".join(reversed(rows)))
    files = [source, data / "backwards.csv"] * 2
    counted = await asyncio.gather(
        *(importing(rolls, hashes, survey).run(file, data / f"{n}.report") for n, file in enumerate(files))
    )
    assert sum(one[RollOutcome.ENROLLED] for one in counted) == 40
    assert len(await on_roll(owner_pool, survey)) == 40


async def test_a_report_of_something_else_is_not_written_on(
    data: Path, rolls: dict[str, asyncpg.Pool], hashes: KeyedLookupHashes
) -> None:
    source, report = data / "roll.csv", data / "report"
    source.write_text("voter_id\n")
    await importing(rolls, hashes, new_survey_id()).run(source, report)
    before = report.read_bytes()
    with pytest.raises(OtherReportError):
        await importing(rolls, hashes, new_survey_id()).run(source, report)
    report.write_text("somebody's notes\n")
    with pytest.raises(OtherReportError):
        await importing(rolls, hashes, new_survey_id()).run(source, report)
    assert report.read_text() == "somebody's notes\n"
    assert before.endswith(b"row,line,outcome,cell\n")


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("name\nAnna\n", {}, "must name voter_id"),
        ("country,kind\nDEU,passport\n", {}, "must name voter_id"),
        ("", {}, "must name voter_id"),
        ('voter_id\n"' + "x" * 200_000, {}, "follows line 1 is no row"),
        ("voter_id\n", {"--survey": "mine"}, "no id of a survey"),
        ("voter_id\n", {"--cell": "mars"}, "no cell mars"),
    ],
)
async def test_nonsense_is_refused(data: Path, content: str, options: dict[str, str], said: str) -> None:
    (data / "roll.csv").write_text(content)
    given = {"--survey": new_survey_id(), "--cell": "eu", "--data": str(data), **options}
    arguments = ["import", str(data / "roll.csv"), *(part for option in given.items() for part in option)]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code != 0
    assert said in result.stderr
