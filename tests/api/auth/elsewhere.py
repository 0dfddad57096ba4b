"""The service `auth` in another process, as a balancer would have it beside the one of the tests."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from comitia.stack.state import StackState
from integrations.keys.dpop_keys import make_proof
from integrations.postgres.roles import IDENTITY
from integrations.settings import Environment
from tests.api.auth.conftest import PUBLIC_URL, LoggedIn

ROOT = Path(__file__).parents[3]
SECONDS_TO_START = 60


class Elsewhere:
    """The service in a process of its own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def code(self, login: LoggedIn) -> str:
        """Return what it says to an access token: empty, or the code of the refusal."""
        path, token = "/v1/auth/sessions", login.tokens.access_token
        proof = make_proof(login.key, "GET", PUBLIC_URL + path, time.time(), token=token)
        answer = await self.client.get(path, headers={"authorization": f"DPoP {token}", "dpop": proof})
        return "" if answer.status_code == 200 else str(answer.json()["code"])


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@asynccontextmanager
async def open_elsewhere(servers: StackState) -> AsyncIterator[Elsewhere]:
    """Start another process, for which the Redis of the cell `us` is never there; end it with the block."""
    environment = {
        **os.environ,
        **servers.settings_environment(IDENTITY, environment=Environment.TEST),
        "COMITIA_PUBLIC_URL": PUBLIC_URL,
        "COMITIA_STOP_LAME_DUCK_S": "0",
        "COMITIA_CELLS__US__REDIS__PORT": str(closed_port()),
    }
    command = [sys.executable, "-m", "api", "auth"]
    with subprocess.Popen(  # noqa: ASYNC220 - it is started once
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        address = await asyncio.wait_for(asyncio.to_thread(_address, process), SECONDS_TO_START)
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            yield Elsewhere(client)
        process.terminate()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("listening on "):
            return line.split()[-1]
    raise AssertionError("the process ended")
