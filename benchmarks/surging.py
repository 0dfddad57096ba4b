"""Open-loop loads in stages: requests of different voters, or reads, sent when they are due by a process of its own."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec

from benchmarks.ground import Ground
from benchmarks.load.spec import write_requests
from benchmarks.load.surge import Answered, Stage, SurgeResult, SurgeSpec, read_records
from benchmarks.processes import PYTHON, ROOT
from benchmarks.products import recorded_in, settled
from benchmarks.report import check_equal
from benchmarks.voters import Polling

_ENDS_WITHIN_S, _MADE_WITHIN_S = 60.0, 120.0
_ANSWERS = ("201", "202", "503", "429", "504")


@dataclass(frozen=True, slots=True)
class Surged:
    """One open-loop run: what the client counted, and every answer."""

    result: SurgeResult
    records: list[Answered]

    def due_between(self, began: float, ended: float) -> list[Answered]:
        """Return the requests that were due in a span of the monotonic clock."""
        return [answer for answer in self.records if began <= answer.due < ended]


async def surge_votes(
    ground: Ground,
    polling: Polling,
    stages: list[Stage],
    connections: int,
    *,
    wanted: int = 0,
    together: asyncio.Barrier | None = None,
    until: Path | None = None,
) -> Surged:
    """Let different people vote, up to `wanted`, or twice as many as are due.

    With `until`, a file with which it ends, they also come again after their connection broke.
    """
    wanted = wanted or int(sum(2 * stage.rate * stage.seconds for stage in stages)) + connections
    votes = ground.voters.requests(polling, wanted)
    return await surge(ground, polling.url, votes, stages, connections, together=together, until=until)


async def surge_reads(
    ground: Ground, url: str, path: str, stages: list[Stage], connections: int, *, together: asyncio.Barrier
) -> Surged:
    """Ask for the same again and again."""
    wanted = int(sum(stage.rate * stage.seconds for stage in stages)) + connections
    read = f"GET {path} HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n\r\n".encode("ascii")
    return await surge(ground, url, (read for _ in range(wanted)), stages, connections, together=together)


async def surge(
    ground: Ground,
    url: str,
    requests: Iterable[bytes],
    stages: list[Stage],
    connections: int,
    *,
    together: asyncio.Barrier | None = None,
    until: Path | None = None,
) -> Surged:
    """Send whole requests to one address in stages; several loads begin `together` when all are made.

    Raises:
        RuntimeError: the client failed; the message is its standard error.
    """
    port = urlsplit(url).port or 0
    files = [ground.folder / f"{kind}-{id(stages)}-{port}" for kind in ("surge", "records")]
    spec = SurgeSpec(
        port=port,
        requests=str(files[0]),
        records=str(files[1]),
        connections=connections,
        stages=stages,
        comes_again=until is not None,
        until=str(until or ""),
    )
    try:
        await asyncio.to_thread(write_requests, files[0], requests)
        if together is not None:
            async with asyncio.timeout(_MADE_WITHIN_S):
                await together.wait()
        process = await asyncio.create_subprocess_exec(
            PYTHON, "-m", "benchmarks.load.surge", cwd=ROOT, stdin=-1, stdout=-1, stderr=-1
        )
        try:
            async with asyncio.timeout(sum(stage.seconds for stage in stages) + spec.drain_s + _ENDS_WITHIN_S):
                out, errors = await process.communicate(msgspec.json.encode(spec))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or errors:
            raise RuntimeError(f"the load client failed\n{errors.decode()}")
        found = await asyncio.to_thread(read_records, Path(spec.records))
    finally:
        files[0].unlink(missing_ok=True)
    return Surged(msgspec.json.decode(out, type=SurgeResult), found)


async def check_surge(owner: asyncpg.Pool, survey_id: str, result: SurgeResult) -> str:
    """Compare what voters were told with the ledger of their cell.

    A vote whose answer was lost with its connection may be recorded too, once, and its voter asks again.

    Raises:
        CheckFailedError: they differ.
    """
    confirmed, accepted = result.counts.get("201", 0), result.counts.get("202", 0)
    check_equal("receipts", confirmed=confirmed, receipts=result.distinct_receipts)
    broken = result.counts.get("broken, come again", 0)
    answers = sum(result.counts.get(status, 0) for status in _ANSWERS)
    check_equal(f"answers {result.counts}", sent=result.sent, answered=answers + broken)
    counts = await settled(lambda: recorded_in(owner, survey_id), confirmed + accepted)
    return check_equal(f"survey {survey_id}", taken=confirmed + accepted, **counts)
