"""A voter proves the participation to anybody; nobody else can ask for it, and no ballot is in it."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import httpx
import pytest
import pytest_asyncio

from api.votes.receipts import Receipts
from domain.errors import DomainError
from domain.ids import BatchId
from domain.receipts import verify_receipt
from domain.submissions import Submission, SubmissionIds
from integrations.keys.signing import is_signed
from integrations.postgres.participations import PostgresParticipations, Recorded
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT, SURVEYS
from integrations.settings import Settings
from tests.answers import code_of
from tests.api.votes.conftest import CELL, Votes
from tests.conftest import OwnerPool, SettingsFor
from tests.sealing_world import Seal, log_keys, sealing
from tests.voting_world import REGION, Booth, OpenBooth, TokenDesk, voting_keys


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def seal(settings_for: SettingsFor) -> AsyncIterator[Seal]:
    """Seal everything that was written so far, where the service looks for it."""
    settings = settings_for(AUDIT)
    assert settings.objects_folder is not None
    async with sealing(settings, CELL, settings.objects_folder) as run:
        yield run


LogKeys = Mapping[tuple[str, bytes], bytes]


@pytest_asyncio.fixture
async def keys(settings_for: SettingsFor) -> LogKeys:
    return await log_keys(settings_for(AUDIT), CELL)


async def asked(votes: Votes, submission: str, token: str) -> httpx.Response:
    path = f"/v1/submissions/{submission}/proof"
    return await votes.client.get(path, headers={"authorization": f"Bearer {token}"})


async def test_a_voter_gets_one_file_that_anybody_can_check(
    votes: Votes, booth: Booth, desk: TokenDesk, seal: Seal, keys: LogKeys
) -> None:
    voter = secrets.token_bytes(32)
    token = desk.token(booth.survey.id, CELL, nullifier=voter)
    cast = await votes.cast(booth, token, "2")
    submission = cast.json()["submissionId"]

    early = await asked(votes, submission, token)
    assert code_of(early) == (409, "not_sealed_yet")
    assert int(early.headers["retry-after"]) > 0

    await seal()
    answer = await asked(votes, submission, token)
    assert answer.status_code == 200, answer.text
    assert [check for check in verify_receipt(answer.content, keys, is_signed) if not check.holds] == []
    document = answer.json()
    assert document["participation"] == {
        "survey": booth.survey.id,
        "nullifier": voter.hex(),
        "evidence": document["participation"]["evidence"],
        "region": REGION,
    }
    assert document["entry"]["kind"] == "votes.recorded"

    stranger = desk.token(booth.survey.id, CELL)
    assert code_of(await asked(votes, submission, stranger)) == (404, "submission_not_found")
    assert code_of(await asked(votes, submission, "nothing")) == (401, "token_invalid")
    assert (await votes.client.get(f"/v1/submissions/{submission}/proof")).status_code == 401

    await votes.cast(booth, desk.token(booth.survey.id, CELL))
    await seal()  # a later tree head changes nothing of it
    assert (await asked(votes, submission, token)).content == answer.content


async def test_every_vote_of_a_full_batch_is_proved_apart(
    votes: Votes, booth_of: OpenBooth, desk: TokenDesk, seal: Seal, keys: LogKeys
) -> None:
    booths = [await booth_of(), await booth_of()]
    voters = [(booths[n % 2], desk.token(booths[n % 2].survey.id, CELL)) for n in range(60)]

    async def taken(number: int, booth: Booth, token: str) -> httpx.Response:
        while True:  # a machine that is busy with other tests may be too late for some of sixty at once
            answer = await votes.cast(booth, token, str(1 + number % 3), key=f"v-{number}")
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(0.1)

    cast = await asyncio.gather(*(taken(number, *voter) for number, voter in enumerate(voters)))
    await asyncio.gather(*(booth.settled(30) for booth in booths))
    await seal()
    answers = await asyncio.gather(
        *(asked(votes, each.json()["submissionId"], token) for each, (_, token) in zip(cast, voters, strict=True))
    )
    assert {answer.status_code for answer in answers} == {200}
    files = [answer.json() for answer in answers]
    assert max(file["size"] for file in files) > 2  # some waited for each other
    assert len({(file["batchRoot"], file["index"]) for file in files}) == len(files)
    for answer in answers:
        assert all(check.holds for check in verify_receipt(answer.content, keys, is_signed))


async def test_no_file_tells_what_was_chosen(votes: Votes, booth: Booth, desk: TokenDesk, seal: Seal) -> None:
    """Two voters who chose differently have files with the same fields, none of which is of a ballot of theirs."""
    found = []
    for option in ("1", "3"):
        token = desk.token(booth.survey.id, CELL)
        submission = (await votes.cast(booth, token, option)).json()["submissionId"]
        await seal()
        found.append((await asked(votes, submission, token)).content)
    one, other = map(json.loads, found)
    assert one.keys() == other.keys()
    assert one["entry"]["body"].keys() == other["entry"]["body"].keys()
    assert "options" not in found[0].decode()
    rows = await booth.pool.fetch("SELECT ballot_id, sealed FROM voting.ballot WHERE survey_id = $1", booth.survey.id)
    assert len(rows) == 2
    for row in rows:
        for content in found:
            assert str(row["ballot_id"]) not in content.decode()
            assert row["sealed"].hex() not in content.decode()


async def test_a_repeat_is_proved_by_the_first_vote_and_a_refused_one_is_not(
    votes: Votes, booth: Booth, desk: TokenDesk, seal: Seal, keys: LogKeys
) -> None:
    voter = secrets.token_bytes(32)
    token = desk.token(booth.survey.id, CELL, nullifier=voter)
    first = await votes.cast(booth, token, key="one")
    again = await votes.cast(booth, token, key="one")
    other = await votes.cast(booth, token, key="two")
    assert other.status_code == 409
    await seal()
    proofs = [await asked(votes, cast.json()["submissionId"], token) for cast in (first, again)]
    assert proofs[0].content == proofs[1].content
    assert all(check.holds for check in verify_receipt(proofs[0].content, keys, is_signed))


async def test_participations_that_stand_elsewhere_are_found(voting_pool: asyncpg.Pool, booth: Booth) -> None:
    batch = await booth.batch(*(booth.vote() for _ in range(5)))
    await booth.ledger.record(batch, datetime.now(UTC))
    reading = PostgresParticipations(voting_pool)
    own = await reading.of(booth.survey.id, batch.votes[3].nullifier)
    assert own is not None
    expected = {vote.nullifier for vote in batch.votes}
    for block in (own.block, own.block + 10**6):
        found = await reading.of_batch(Recorded(own.participation, own.transaction, block), 5)
        assert {each.nullifier for each in found} == expected
    assert await reading.of(booth.survey.id, bytes(32)) is None
    assert len(await reading.of_batch(own, 6)) == 5


async def test_a_changed_ledger_is_a_fault_and_no_proof(
    votes: Votes, votes_settings: Settings, booth: Booth, desk: TokenDesk, *, seal: Seal, owner_pool: OwnerPool
) -> None:
    own, other = booth.vote(), booth.vote()
    batch = await booth.batch(own, other)
    await booth.ledger.record(batch, datetime.now(UTC))
    ids = SubmissionIds((await voting_keys(votes_settings).current("submission")).secret)
    submission = ids.make(Submission(BatchId(batch.gateway_id, batch.number), 0), own.nullifier)
    token = desk.token(booth.survey.id, CELL, nullifier=own.nullifier)
    await seal()
    assert (await asked(votes, submission, token)).json()["size"] == 2

    owner = await owner_pool(CELL)
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE voting.participation DISABLE TRIGGER USER")
        await connection.execute("DELETE FROM voting.participation WHERE nullifier = $1", other.nullifier)
        await connection.execute("ALTER TABLE voting.participation ENABLE TRIGGER USER")
    assert code_of(await asked(votes, submission, token)) == (500, "audit_log_contradicted")


class Hanging:
    """Submissions that are looked for until they may be found."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def read(self, *_: Any) -> dict[str, Any]:
        await self.go_on.wait()
        return {"status": "accepted"}


async def test_whoever_asks_again_and_again_stands_in_the_line_once() -> None:
    submissions, one, other = Hanging(), secrets.token_bytes(32), secrets.token_bytes(32)
    receipts = Receipts(cast("Any", None), cast("Any", submissions), {})

    async def outcome(nullifier: bytes) -> str:
        with pytest.raises(DomainError) as refused:
            await receipts.prove("any", cast("Any", SimpleNamespace(nullifier=nullifier)))
        return refused.value.code

    asking = [asyncio.create_task(outcome(nullifier)) for nullifier in (one, one, one, other)]
    await asyncio.wait(asking[1:3])
    submissions.go_on.set()
    assert await asyncio.gather(*asking) == ["not_sealed_yet", "overloaded", "overloaded", "not_sealed_yet"]
    assert await outcome(one) == "not_sealed_yet"


async def test_who_records_votes_learns_places_and_reads_no_entry(
    voting_pool: asyncpg.Pool, settings_for: SettingsFor
) -> None:
    assert await voting_pool.fetchval("SELECT audit.place_of_batch('3'::xid8)") is None
    for table in ("audit.entry", "audit.leaf"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await voting_pool.fetch(f"SELECT * FROM {table}")
    settings = settings_for(SURVEYS)
    other = await open_pool(settings.cells[CELL].database, settings, SURVEYS, size=1)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await other.fetchval("SELECT audit.place_of_batch('3'::xid8)")
    await other.close()
