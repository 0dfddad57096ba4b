"""Processes that a benchmark starts: they are ready before the clock starts, watched while it runs, and ended."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil

from benchmarks.load.spec import LoadResult, LoadSpec
from comitia.stack.probes import http_ok
from comitia.stack.process import ManagedProcess

HOST = "127.0.0.1"
PYTHON = sys.executable
ROOT = Path(__file__).parents[1]
_READY_WITHIN_S = 60.0


@asynccontextmanager
async def running(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], *, port: int, path: str = ""
) -> AsyncIterator[ManagedProcess]:
    """Run a command until the end of the block; it is ready when its port answers (with 200, where `path` is given)."""
    process = ManagedProcess(name, command, log, environment={**os.environ, **environment}, folder=ROOT)
    await process.start()
    try:
        ready = (lambda: http_ok(HOST, port, path)) if path else (lambda: _listens(port))
        await process.until(ready, within_s=_READY_WITHIN_S)
        yield process
    finally:
        await process.stop()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def run_load(spec: LoadSpec) -> LoadResult:
    """Run the load client in a process of its own and return what it found.

    Raises:
        RuntimeError: it failed; the message is its standard error.
    """
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "benchmarks.load", cwd=ROOT, stdin=-1, stdout=-1, stderr=-1
    )
    limit = spec.duration_s + spec.drain_s + 60
    try:
        async with asyncio.timeout(limit):
            out, errors = await process.communicate(msgspec.json.encode(spec))
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if process.returncode or errors:
        raise RuntimeError(f"the load client failed\n{errors.decode()}")
    return msgspec.json.decode(out, type=LoadResult)


class CpuWatch:
    """CPU time of processes, with their children, and of the whole machine, since `start`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before: dict[str, float] = {}
        self._busy = 0.0
        self._at = 0.0

    def start(self) -> None:
        """Take the first reading."""
        self._before = {name: _cpu_s(pid) for name, pid in self._pids.items()}
        self._busy = _busy_s()
        self._at = time.perf_counter()

    def cores(self) -> dict[str, float]:
        """Return the cores that each took on average since `start`, and all together as `machine`."""
        passed = time.perf_counter() - self._at
        found = {name: (_cpu_s(pid) - self._before[name]) / passed for name, pid in self._pids.items()}
        return {**found, "machine": (_busy_s() - self._busy) / passed}


def _busy_s() -> float:
    times = psutil.cpu_times()
    busy: float = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    return busy


def _cpu_s(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        total = 0.0
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            total += times.user + times.system
    except psutil.NoSuchProcess:
        return 0.0
    return total


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process, without its children."""
    resident: int = psutil.Process(pid).memory_info().rss
    return resident
