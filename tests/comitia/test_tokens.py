"""`comitia token`: voters and staff for tests and demos, and nothing of it in production."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from comitia.stack.ports import free_port
from comitia.stack.state import STATE_FILE, StackState
from comitia.tokens import app, issue_voters, open_access_tokens
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.keys.dpop_keys import ProofKey
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import TokenVerifier
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY
from integrations.settings import Environment, Settings
from tests.conftest import OwnerPool, SettingsFor


@pytest.fixture
def data(servers: StackState, tmp_path: Path) -> Path:
    """The folder of a stack: these servers, keys of its own."""
    servers.model_copy(update={"folder": tmp_path}).write()
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


async def lines_of(*arguments: str) -> list[dict[str, Any]]:
    code, out, err = await asyncio.to_thread(run, *arguments)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


async def verifier_of(data: Path, purpose: str, claims: Any, kind: Any) -> TokenVerifier[Any]:
    held = VerificationKeys(FileKms(data / "keys", frozenset({f"public:{purpose}"})), purpose)
    await held.refresh()
    return TokenVerifier(claims, kind, held)


async def test_voters_are_created_and_get_tokens(data: Path, owner_pool: OwnerPool) -> None:
    options = ["--cell", "us", "--region", "NY", "--count", "3", "--age", "16", "--data", str(data)]
    lines = await lines_of("voter", *options)
    assert [set(line) for line in lines] == [{"token", "subject"}] * 3
    verifier = await verifier_of(data, ACCESS_TOKEN, VoterClaims, VOTER_ACCESS)
    found = [verifier.verify(line["token"].encode(), time.time()) for line in lines]
    assert len({claims.sub for claims in found}) == 3
    assert {(claims.cell, claims.region, claims.jkt) for claims in found} == {("us", "NY", None)}
    rows = await (await owner_pool("us")).fetch(
        "SELECT status, assurance, region, age_class FROM identity.voter WHERE voter_id = ANY ($1)",
        [claims.sub for claims in found],
    )
    assert [tuple(row) for row in rows] == [("active", "substantial", "NY", 16)] * 3


async def test_bound_token_comes_with_its_key(data: Path) -> None:
    (line,) = await lines_of("voter", "--cell", "eu", "--region", "DE", "--bound", "--data", str(data))
    verifier = await verifier_of(data, ACCESS_TOKEN, VoterClaims, VOTER_ACCESS)
    assert verifier.verify(line["token"].encode(), time.time()).jkt == ProofKey.from_private_jwk(line["key"]).jkt


async def test_staff_token_has_its_roles(data: Path) -> None:
    (line,) = await lines_of("staff", "--role", "admin", "--role", "support", "--data", str(data))
    verifier = await verifier_of(data, STAFF_TOKEN, StaffClaims, STAFF_ACCESS)
    assert verifier.verify(line["token"].encode(), time.time()).roles == (Role.ADMIN, Role.SUPPORT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["voter", "--cell", "mars", "--region", "X"], "no cell mars"),
        (["voter", "--cell", "eu", "--region", "X", "--age", "17"], "0, 16 or 18"),
        (["voter", "--cell", "eu", "--region", "X", "--count", "0"], "--count"),
        (["staff", "--role", "king"], "king"),
    ],
)
async def test_nonsense_is_refused(data: Path, arguments: list[str], said: str) -> None:
    code, out, err = await asyncio.to_thread(run, *arguments, "--data", str(data))
    assert code != 0
    assert out == ""
    assert said in err


async def test_production_gets_no_tokens(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_ENVIRONMENT", "production")
    for arguments in (["voter", "--cell", "eu", "--region", "DE"], ["staff", "--role", "admin"]):
        code, out, err = await asyncio.to_thread(run, *arguments, "--data", str(data))
        assert (code, out) == (1, "")
        assert "production" in err
    with pytest.raises(PermissionError):
        await open_access_tokens(Settings(environment=Environment.PRODUCTION))


def test_where_there_is_no_stack_it_takes_the_environment_for_production(tmp_path: Path) -> None:
    code, out, err = run("staff", "--role", "admin", "--data", str(tmp_path / "nothing"))
    assert (code, out) == (1, "")
    assert "production" in err
    assert "start one with `comitia up`" in err


async def test_of_a_stack_that_has_stopped_it_says_what_to_do(data: Path, servers: StackState) -> None:
    state, port = data / STATE_FILE, str(servers.ports["postgres"])
    state.write_text(state.read_text().replace(port, str(free_port([]))))
    code, out, err = await asyncio.to_thread(run, "voter", "--cell", "eu", "--region", "DE", "--data", str(data))
    assert (code, out) == (1, "")
    assert "`comitia up` starts it" in err


async def test_thousands_come_as_a_stream(settings_for: SettingsFor) -> None:
    settings = settings_for(IDENTITY)
    tokens = await open_access_tokens(settings)
    pool = await open_pool(settings.cells["eu"].database, settings, IDENTITY, size=1)
    try:
        subjects = {issued.subject async for issued in issue_voters(pool, tokens, "eu", "DE", 5001)}
    finally:
        await pool.close()
    assert len(subjects) == 5001
