"""`comitia staff`: one first administrator, others by hand, and never none."""

import asyncio
import secrets
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from comitia.stack.state import StackState
from comitia.staff import app
from domain.accounts import LookupKind
from domain.canonical import provider_login
from domain.ids import new_staff_id
from domain.staff import StaffMember
from domain.tokens import Role
from integrations.keys.file_kms import FileKms
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import LOOKUP
from integrations.postgres.staff_accounts import PostgresStaffAccounts
from tests.conftest import OwnerPool


@pytest.fixture
def data(servers: StackState, tmp_path: Path) -> Path:
    """The folder of a stack: these servers, keys of its own."""
    servers.model_copy(update={"folder": tmp_path}).write()
    return tmp_path


@pytest_asyncio.fixture(autouse=True)
async def _nobody(owner_pool: OwnerPool) -> None:
    """A cell without staff, since what is tested is about all staff of a cell."""
    await (await owner_pool("us")).execute("DELETE FROM identity.staff_login; DELETE FROM identity.staff")


async def run(data: Path, *arguments: str) -> tuple[int, str, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--data", str(data)])
    return result.exit_code, result.stdout.strip(), result.stderr


async def test_the_first_administrator_is_made_once_and_others_are_added(data: Path, owner_pool: OwnerPool) -> None:
    mail = f"{secrets.token_hex(4)}@example.org"
    code, first, err = await run(data, "bootstrap", "--cell", "us", "--mail", f" {mail.upper()} ")
    assert code == 0, err
    again = await run(data, "bootstrap", "--cell", "us", "--mail", "other@example.org")
    assert (again[0], "has had its first administrator" in again[2]) == (1, True)
    pool = await owner_pool("us")
    staff, hashes = PostgresStaffAccounts(pool), KeyedLookupHashes(FileKms(data / "keys", frozenset({LOOKUP})))
    found = await staff.find(LookupKind.MAIL, await hashes.every(LookupKind.MAIL, mail))
    assert found == StaffMember(first, frozenset({Role.ADMIN}))
    subject = secrets.token_hex(4)
    options = ["--cell", "us", "--issuer", "https://staff.example", "--subject", subject, "--role", "support"]
    code, second, err = await run(data, "add", *options, "--role", "auditor")
    assert code == 0, err
    login = await hashes.every(LookupKind.LOGIN, provider_login("https://staff.example", subject))
    assert await staff.find(LookupKind.LOGIN, login) == StaffMember(second, frozenset({Role.SUPPORT, Role.AUDITOR}))
    elsewhere = await run(data, "add", *options, "--cell", "eu")  # the last one counts
    assert (elsewhere[0], "us has this login on its roll" in elsewhere[2]) == (1, True)
    taken = await run(data, "add", *options)
    assert (taken[0], "somebody else logs in with this" in taken[2]) == (1, True)
    for _ in range(2):
        assert await run(data, "disable", second) == (0, "", "")
    assert await staff.find(LookupKind.LOGIN, login) is None
    last = await run(data, "disable", first)
    assert (last[0], "last administrator" in last[2]) == (1, True)
    kept = await pool.fetch("SELECT * FROM identity.change WHERE subject = ANY ($1)", [first, second])
    assert {row["actor"].split(":")[0] for row in kept} == {"comitia"}
    assert mail not in repr(kept).lower()


async def test_whoever_has_two_accounts_is_added_once(servers: StackState, tmp_path: Path) -> None:
    provider = {"issuer": "https://staff.example", "client_id": "console", "person_claim": "employee_number"}
    settings = servers.settings | {"staff_provider": provider}
    servers.model_copy(update={"folder": tmp_path, "settings": settings}).write()

    async def add(cell: str, *login: str) -> tuple[int, str, str]:
        return await run(tmp_path, "add", "--cell", cell, "--role", "compliance", *login)

    accounts = [secrets.token_hex(4) for _ in range(2)]
    person, others = secrets.token_hex(4), ("--issuer", "https://staff.example", "--subject", accounts[1])
    code, out, err = await add("us", "--mail", f"{accounts[0]}@example.org")
    assert (code, out, "--person is missing" in err) == (1, "", True)
    code, _, err = await add("us", "--mail", f"{accounts[0]}@example.org", "--person", person)
    assert code == 0, err
    code, out, err = await add("us", *others, "--person", person)
    assert (code, "or is this person" in err) == (1, True)
    code, out, err = await add("eu", *others, "--person", person)
    assert (code, "us has this person on its roll" in err) == (1, True)
    code, out, err = await add("eu", *others, "--person", secrets.token_hex(4))
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bootstrap", "--cell", "mars", "--mail", "a@example.org"], "no cell mars"),
        (["bootstrap", "--cell", "us"], "--mail"),
        (["bootstrap", "--cell", "us", "--mail", "a@example.org", "--issuer", "i", "--subject", "s"], "--mail"),
        (["bootstrap", "--cell", "us", "--mail", "nobody"], "not a mail address"),
        (["bootstrap", "--cell", "us", "--issuer", "https://staff.example"], "not a login"),
        (["add", "--cell", "us", "--mail", "a@example.org", "--role", "king"], "king"),
        (["add", "--cell", "us", "--mail", "a@example.org", "--role", "admin", "--person", "7"], "say which"),
        (["disable", "u_admin"], "no id of a member"),
        (["disable", new_staff_id("us")], "knows no"),
    ],
)
async def test_nonsense_is_refused(data: Path, arguments: list[str], said: str) -> None:
    code, out, err = await run(data, *arguments)
    assert code != 0
    assert out == ""
    assert said in err
