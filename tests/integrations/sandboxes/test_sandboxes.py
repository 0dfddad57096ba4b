import os
import re
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from integrations.sandboxes.__main__ import main
from integrations.sandboxes.mounting import SandboxesRefusedError, mount, open_sandboxes
from integrations.sandboxes.registry import SANDBOXES, find_sandbox
from integrations.sandboxes.serving import DROP, serve_sandboxes
from integrations.settings import Environment, Settings

ROOT = Path(__file__).parents[3]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the raw target of the request, or not at all."""
    target: bytes = scope["raw_path"] + b"?" + scope["query_string"]
    if target.endswith(b"drop"):
        scope["extensions"][DROP]()
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["root_path"].encode() + b" " + target})


async def test_each_is_served_under_its_prefix_and_sees_the_target_as_it_was_sent() -> None:
    async with serve_sandboxes(mount({"one": echo})) as address, httpx.AsyncClient(base_url=address) as client:
        assert (await client.get("/livez")).json() == {"sandboxes": ["one"]}
        answer = await client.get("/one/-;id=a%2Fb%20c/one?x=%20+;")
        assert answer.content == b"/one /one/-;id=a%2Fb%20c/one?x=%20+;"
        assert (await client.get("/other")).status_code == 404


async def test_one_can_drop_its_connection() -> None:
    async with serve_sandboxes(mount({"one": echo})) as address, httpx.AsyncClient(base_url=address) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("/one/?drop")
        assert (await client.get("/one/")).status_code == 200


async def test_production_has_none() -> None:
    async with AsyncExitStack() as lifetime:
        with pytest.raises(SandboxesRefusedError):
            await open_sandboxes(Settings(environment=Environment.PRODUCTION), lifetime)


def test_every_name_leads_to_a_sandbox() -> None:
    assert all(callable(find_sandbox(name)) for name in SANDBOXES)


def test_the_process_refuses_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_ENVIRONMENT", "production")
    with pytest.raises(SystemExit, match="production refuses sandboxes"):
        main()


def test_the_process_serves_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "-m", "integrations.sandboxes"]
    environment = {**os.environ, "COMITIA_LISTEN_PORT": "0"}
    with subprocess.Popen(
        command, cwd=ROOT, env={**environment, "COMITIA_ENVIRONMENT": "test"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.fullmatch(r"listening on (http://\S+)\n", process.stdout.readline())
        assert found is not None
        assert httpx.get(f"{found[1]}/livez").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
