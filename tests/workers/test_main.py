import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from workers.composition import find_run

ROOT = Path(__file__).parents[2]
WORKER = """
async def run(settings, lifetime, telemetry, stopping):
    lifetime.callback(print, "undone", flush=True)
    telemetry.readiness.start()
    await stopping.wait()
"""


@pytest.mark.parametrize("name", ["nothing", "composition", "__main__", "", "../etc", "a.b"])
def test_what_is_no_worker_is_refused(name: str) -> None:
    with pytest.raises(LookupError):
        find_run(name)


async def ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_worker_from_start_to_stop(tmp_path: Path) -> None:
    (tmp_path / "ghost.py").write_text(WORKER)
    start = f"import workers, sys, runpy; workers.__path__.append({str(tmp_path)!r}); sys.argv[1:] = ['ghost']; "
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        start + "runpy.run_module('workers', run_name='__main__', alter_sys=False)",
        cwd=ROOT,
        env={**os.environ, "COMITIA_ENVIRONMENT": "test"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (found := re.match(rb"listening on http://127.0.0.1:(\d+)", await process.stdout.readline())):
            pass
        port = int(found[1])
        while not (await ask(port, "/readyz")).startswith(b"HTTP/1.1 200"):
            pass
        assert b'comitia_build_info{build="unknown",service="ghost"} 1.0' in await ask(port, "/metrics")
        process.send_signal(signal.SIGTERM)
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    assert "undone" in rest
    assert '"message":"stopped"' in rest
