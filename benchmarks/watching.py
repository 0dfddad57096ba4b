"""Event streams held open by a process of their own while something else goes on."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.load.streams import StreamResult, StreamSpec
from benchmarks.processes import PYTHON, ROOT

_END_WITHIN_S = 30.0


@dataclass(slots=True)
class Watched:
    """What the streams saw, complete after the block: per stream, (total, instant) in order of arrival."""

    result: StreamResult = field(default_factory=lambda: StreamResult(0, 0, 0, 0.0))
    arrivals: list[list[tuple[int, float]]] = field(default_factory=list)


@asynccontextmanager
async def watching(port: int, path: str, streams: int, file: Path, *, limit_s: float) -> AsyncIterator[Watched]:
    """Open streams, all of them delivering when the block begins; close them at its end.

    Raises:
        RuntimeError: they did not open; the message is what the process said.
    """
    spec = StreamSpec(port=port, path=path, streams=streams, arrivals=str(file), limit_s=limit_s)
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "benchmarks.load.streams", cwd=ROOT, stdin=-1, stdout=-1, stderr=-1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    watched = Watched()
    try:
        process.stdin.write(msgspec.json.encode(spec) + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(limit_s):
            said = await process.stdout.readline()
        if said != b"ready\n":
            _, errors = await process.communicate()
            raise RuntimeError(f"the streams did not open\n{errors.decode()}")
        yield watched
        process.stdin.close()
        async with asyncio.timeout(_END_WITHIN_S):
            out, _ = await process.communicate()
        watched.result = msgspec.json.decode(out, type=StreamResult)
        watched.arrivals = read_arrivals(file, streams)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def read_arrivals(file: Path, streams: int) -> list[list[tuple[int, float]]]:
    """Return what a reader left in a file, which is removed: per stream, (total, instant) in order of arrival."""
    flat = array("d")
    flat.frombytes(file.read_bytes())
    file.unlink()
    found: list[list[tuple[int, float]]] = [[] for _ in range(streams)]
    for at in range(0, len(flat), 3):
        found[int(flat[at])].append((int(flat[at + 1]), flat[at + 2]))
    return found


def delays_ms(known_at: list[float], arrivals: list[tuple[int, float]]) -> tuple[list[float], int]:
    """Return how long after its instant each total was seen in one stream, and how many never were.

    `known_at[n]` is when total n + 1 was a fact. A total is seen with the first event that shows it or a later one:
    a reader who is shown 12 after 9 has seen 10, 11 and 12.
    """
    delays: list[float] = []
    number = 0
    for total, instant in arrivals:
        while number < min(total, len(known_at)):
            delays.append(1000 * (instant - known_at[number]))
            number += 1
    return delays, len(known_at) - number
