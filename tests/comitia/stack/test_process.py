import signal
import subprocess
import sys
from pathlib import Path

import pytest

from comitia.stack.process import ManagedProcess, StartError
from tests.comitia.stack.processes import alive, family_of, gone

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
PARENT = """
import asyncio, sys
from pathlib import Path
from comitia.stack.process import ManagedProcess

async def main():
    child = ManagedProcess("child", ["sleep", "60"], Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


async def never() -> bool:
    return False


async def test_it_stops_with_its_own_signal_and_starts_again(tmp_path: Path) -> None:
    process = ManagedProcess("sleeper", ["sleep", "60"], tmp_path / "log", stop_signal=signal.SIGUSR1)
    await process.start()
    first = process.pid
    assert first is not None
    await process.stop()
    assert await process.wait() == -signal.SIGUSR1  # SIGINT may be ignored by who runs the tests, and then by all below
    assert process.pid is None
    await process.stop()
    await process.start()
    assert process.pid not in {None, first}
    await process.kill()


async def test_one_that_does_not_listen_is_killed_with_its_group(tmp_path: Path) -> None:
    process = ManagedProcess(
        "deaf", ["sh", "-c", f'sleep 60 & exec {sys.executable} -c "{STUBBORN}"'], tmp_path / "log"
    )
    process.grace_s = 0.2
    await process.start()

    async def deaf() -> bool:
        return "deaf" in process.tail()

    await process.until(deaf, within_s=10)
    assert process.pid is not None
    family = family_of(process.pid)
    assert len(family) == 2
    await process.stop()
    assert not gone(family)


async def test_an_early_end_is_told_with_the_log(tmp_path: Path) -> None:
    process = ManagedProcess("broken", ["sh", "-c", "echo no such disk; exit 3"], tmp_path / "log")
    await process.start()
    with pytest.raises(StartError, match=r"broken ended with status 3\nno such disk"):
        await process.until(never, within_s=10)


async def test_waiting_has_an_end(tmp_path: Path) -> None:
    process = ManagedProcess("slow", ["sleep", "60"], tmp_path / "log")
    await process.start()
    with pytest.raises(StartError, match="slow was not ready"):
        await process.until(never, within_s=0.1)
    await process.kill()


async def test_a_long_log_makes_room(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    log.write_bytes(b"x" * (17 * 1024 * 1024))
    process = ManagedProcess("talker", ["echo", "fresh"], log)
    assert await process.finish() == 0
    assert log.read_text() == "fresh\n"
    assert (tmp_path / "some.1.log").exists()


def test_a_child_dies_with_a_parent_that_had_no_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    assert not gone({child})
