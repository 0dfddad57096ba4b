import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import types
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from api.composition import Service, find_compose
from api.http.application import create_application
from api.http.lean import LeanRoute
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from tests.api.http.wire import echo

ROOT = Path(__file__).parents[2]
COMPOSITION = """
from api.composition import Service
from api.http.application import create_application
from api.http.lean import LeanRoute

async def compose(settings, lifetime, telemetry):
    lifetime.callback(print, "undone", flush=True)
    app = create_application("ghost", telemetry)
    return Service(app, [LeanRoute("POST", "/echo", lambda request: request.respond(201, request.body))])
"""


def test_services_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def compose(_settings: Settings, _lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
        return Service(create_application("ghost", telemetry), [LeanRoute("POST", "/echo", echo)])

    module = types.ModuleType("api.ghost.composition")
    module.compose = compose  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "api.ghost", types.ModuleType("api.ghost"))
    monkeypatch.setitem(sys.modules, "api.ghost.composition", module)
    assert find_compose("ghost") is compose


@pytest.mark.parametrize("name", ["nothing", "http", "", "../etc", "Votes", "a.b", "votes;"])
def test_what_is_no_service_is_refused(name: str) -> None:
    with pytest.raises(LookupError):
        find_compose(name)


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["a", "b"]])
@pytest.mark.parametrize("module", ["api", "workers"])
def test_the_command_line_says_what_is_wrong(module: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "usage" in done.stderr or "no service" in done.stderr or "no worker" in done.stderr


def test_production_wants_a_port_of_its_own_for_metrics() -> None:
    environment = {**os.environ, "COMITIA_ENVIRONMENT": "production"}
    environment.pop("COMITIA_HEALTH_PORT", None)
    done = subprocess.run(
        [sys.executable, "-m", "api", "results"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("COMITIA_HEALTH_PORT is not set")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_from_start_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    # `ghost` lives in a folder of the test that is merged into the package `api` through its path
    (tmp_path / "ghost").mkdir()
    (tmp_path / "ghost" / "__init__.py").touch()
    (tmp_path / "ghost" / "composition.py").write_text(COMPOSITION)
    start = f"import api, sys, runpy; api.__path__.append({str(tmp_path)!r}); sys.argv[1:] = ['ghost']; "
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        start + "runpy.run_module('api', run_name='__main__', alter_sys=False)",
        cwd=ROOT,
        env={**os.environ, "COMITIA_ENVIRONMENT": "test", "COMITIA_REGION": "eu-1", "COMITIA_STOP_LAME_DUCK_S": "0"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (found := re.match(rb"listening on http://127.0.0.1:(\d+)", await process.stdout.readline())):
            pass
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
        writer.write(
            b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhiGET /readyz HTTP/1.1\r\nhost: x\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\nhi")).startswith(b"HTTP/1.1 201 Created\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        process.send_signal(number)
        rest = (await process.stdout.read()).decode().splitlines()
        writer.close()
        assert await process.wait() == 0
    assert "undone" in rest
    events = [json.loads(line) for line in rest if line.startswith("{")]
    assert [event["message"] for event in events] == ["stopping", "not_listening", "stopped"]
    assert all((event["service"], event["region"]) == ("ghost", "eu-1") for event in events)
