"""`comitia clients`: a key is shown once, works at once, and no more when its client is disabled."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from comitia.clients import app
from comitia.stack.state import StackState
from domain.tokens import Role
from integrations.postgres.api_clients import ApiClients
from tests.conftest import OwnerPool


@pytest.fixture
def data(servers: StackState, tmp_path: Path) -> Path:
    """The folder of a stack: these servers, keys of its own."""
    servers.model_copy(update={"folder": tmp_path}).write()
    return tmp_path


async def run(*arguments: str) -> tuple[int, str, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


async def test_a_client_is_created_and_disabled(data: Path, owner_pool: OwnerPool) -> None:
    options = ["--cell", "us", "--data", str(data)]
    code, out, err = await run(
        "create", "--name", "Roll import", "--role", "admin", "--role", "auditor", "--per-minute", "30", *options
    )
    assert code == 0, err
    client_id, api_key = out.split()
    pool = await owner_pool("us")
    found = await ApiClients({"us": pool}).find(api_key)
    assert found is not None
    assert (found.client_id, found.requests_per_minute) == (client_id, 30)
    assert found.roles == {Role.ADMIN, Role.AUDITOR}
    for _ in range(2):
        assert await run("disable", client_id, *options) == (0, "", "")
    assert await ApiClients({"us": pool}).find(api_key) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--cell", "mars", "--name", "x", "--role", "admin"], "no cell mars"),
        (["create", "--cell", "eu", "--name", "", "--role", "admin"], "--name"),
        (["create", "--cell", "eu", "--name", "x", "--role", "king"], "king"),
        (["create", "--cell", "eu", "--name", "x", "--role", "admin", "--per-minute", "0"], "--per-minute"),
        (["disable", "c_nobody", "--cell", "eu"], "no client c_nobody"),
    ],
)
async def test_nonsense_is_refused(data: Path, arguments: list[str], said: str) -> None:
    code, out, err = await run(*arguments, "--data", str(data))
    assert code != 0
    assert out == ""
    assert said in err
