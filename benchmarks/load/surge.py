"""`python -m benchmarks.load.surge`: an open-loop load in stages, which goes on however slow the answers are.

Reads one JSON spec from standard input, prints one JSON result. A request is due when the clock says so, whether a
connection is free or not, and its latency counts from then. Who is refused comes again after `Retry-After`, as one of
the requests that are due: so the offered rate stays what the stage says.
"""

import asyncio
import contextlib
import gc
import sys
import time
from array import array
from collections import Counter, deque
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from benchmarks.load.scheduling import give_way
from benchmarks.load.spec import percentile, read_requests

_TICK_S = 0.001
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_RETRY_AFTER = b"\r\nretry-after: "
_LAST = b"\r\nconnection: close\r\n"  # the last answer of a connection (RFC 9112, section 9.6)
_GOOD_ANSWERS = frozenset({b"200", b"201", b"202"})  # a read, a vote confirmed, a vote accepted
_REFUSALS = frozenset({b"503", b"429"})
_UNANSWERED, _GOOD, _REFUSED, _OTHER = 0, 1, 2, 3


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many requests per second for so long."""

    rate: float
    seconds: float


class SurgeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`requests` is a file of prebuilt requests, each of another voter; `records` where every answer is noted."""

    port: int
    requests: str
    records: str
    connections: int
    stages: list[Stage]
    drain_s: float = 10.0
    host: str = "127.0.0.1"
    comes_again: bool = False  # also who lost the connection before the answer, with the same request
    until: str = ""  # a file with which the load ends, where that comes before the end of the stages


class SurgeResult(msgspec.Struct, frozen=True):
    """Every request accounted for: due = sent + unsent, sent = good + refused + others + unanswered."""

    started_at: float  # of the monotonic clock
    due: int
    sent: int
    unsent: int  # no connection was free before the end
    unanswered: int
    counts: dict[str, int]  # by status, and `retry-after missing`
    tries: dict[str, int]  # voters with an outcome, by how many requests that took
    distinct_receipts: int
    voters: int  # different voters who asked at least once
    exhausted: bool  # there were no more voters
    client_cpu: float  # cores
    sent_late_ms: float  # how long after it was due a request went out, p99


class Answered(msgspec.Struct, frozen=True):
    """One request of the record."""

    due: float
    sent: float
    done: float
    kind: int

    @property
    def good(self) -> bool:
        """It was confirmed, accepted, or shown what it asked for."""
        return self.kind == _GOOD

    @property
    def refused(self) -> bool:
        """It was refused for the load, with a time to come again."""
        return self.kind == _REFUSED

    @property
    def latency_ms(self) -> float:
        """From when it was due."""
        return 1000 * (self.done - self.due)


def read_records(path: Path) -> list[Answered]:
    """Return what a run noted, in the order of sending; the file is removed."""
    flat = array("d")
    flat.frombytes(path.read_bytes())
    path.unlink()
    columns = zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    return [Answered(due, sent, done, int(kind)) for due, sent, done, kind in columns]


class _Connection(asyncio.Protocol):
    __slots__ = ("_buffer", "_surge", "is_over", "number", "transport", "voter")

    def __init__(self, surge: "Surge") -> None:
        self._surge = surge
        self._buffer = b""
        self.number = -1  # of the request in flight; -1: none
        self.voter = -1
        self.is_over = False  # the server has said so
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        head = data.find(_HEAD_END)
        if head >= 0:
            at = data.find(_LENGTH, 0, head)
            length = int(data[at + 16 : data.find(b"\r\n", at, head + 2)]) if at >= 0 else 0
            if len(data) >= head + 4 + length:
                self._surge.answered(self, data, head)
                return
        self._buffer = data

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None
        self._surge.broken(self)


class Surge:
    """One run."""

    def __init__(self, spec: SurgeSpec, requests: list[bytes]) -> None:
        self._spec = spec
        self._requests = requests
        self._next_voter = 0
        self._again: deque[tuple[float, int]] = deque()  # when a refused voter comes again, roughly in order
        self._free: deque[_Connection] = deque()
        self._records = array("d")
        self._counts: Counter[str] = Counter()
        self._receipts: set[bytes] = set()
        self._tries: dict[int, int] = {}  # in vain, by voter without an outcome yet
        self._outcomes: Counter[str] = Counter()
        self._in_flight = 0
        self._due = 0
        self._exhausted = False
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self) -> SurgeResult:
        """Connect, go through the stages, wait for what is in flight."""
        for _ in range(self._spec.connections):
            await self._connect()
        cpu, start = time.process_time(), time.perf_counter()
        due = start
        for stage in self._spec.stages:
            due = await self._run_stage(stage, due)
        end, used = time.perf_counter(), time.process_time() - cpu
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._spec.drain_s):
                while self._in_flight:  # noqa: ASYNC110 - a load client's drain
                    await asyncio.sleep(0.01)
        return self._result(start, used / (end - start))

    async def _run_stage(self, stage: Stage, start: float) -> float:
        step, wanted, sent = 1 / stage.rate, int(stage.rate * stage.seconds), 0
        end = start + stage.seconds
        while (now := time.perf_counter()) < end and not self._is_over():
            while sent < wanted and self._free and (due := start + sent * step) <= now:
                if not self._send(due, now):
                    break
                sent += 1
            await asyncio.sleep(_TICK_S)
        self._due += min(wanted, round(stage.rate * (now - start)))
        return end

    def _is_over(self) -> bool:
        return bool(self._spec.until) and Path(self._spec.until).exists()

    def _send(self, due: float, now: float) -> bool:
        if self._again and self._again[0][0] <= now:
            voter = self._again.popleft()[1]
        elif self._next_voter < len(self._requests):
            voter = self._next_voter
            self._next_voter += 1
        else:
            self._exhausted = True
            return False
        connection = self._free.popleft()
        if connection.transport is None:
            self._again.appendleft((now, voter))
            return False
        connection.number, connection.voter = len(self._records) // 4, voter
        self._records.extend((due, time.perf_counter(), 0.0, _UNANSWERED))
        self._in_flight += 1
        connection.transport.write(self._requests[voter])
        return True

    def answered(self, connection: _Connection, data: bytes, head: int) -> None:
        """Note one answer; what is refused for the load comes again."""
        number, connection.number = connection.number, -1
        if number < 0:
            self._counts["unasked"] += 1
            return
        self._in_flight -= 1
        status = data[9:12]
        self._counts[status.decode()] += 1
        kind = _OTHER
        if status in _GOOD_ANSWERS:
            kind = _GOOD
            self._outcomes[str(self._tries.pop(connection.voter, 0) + 1)] += 1
            if (at := data.find(b'"receipt":"', head)) > 0:
                self._receipts.add(data[at + 11 : data.find(b'"', at + 11)])
        elif status in _REFUSALS:
            at = data.find(_RETRY_AFTER, 0, head + 2)
            if at < 0:
                self._counts["retry-after missing"] += 1
            else:
                kind = _REFUSED
                wait_s = int(data[at + len(_RETRY_AFTER) : data.find(b"\r\n", at + 2, head + 2)])
                self._come_again(connection.voter, wait_s)
        self._records[4 * number + 2] = time.perf_counter()
        self._records[4 * number + 3] = kind
        if _LAST in data[: head + 2]:
            connection.is_over = True
            if connection.transport is not None:
                connection.transport.close()
        else:
            self._free.append(connection)

    def broken(self, connection: _Connection) -> None:
        """Connect again; what was in flight stays unanswered."""
        self._counts["over" if connection.is_over else "broken"] += 1
        if connection.number >= 0:
            self._in_flight -= 1
            connection.number = -1
            if self._spec.comes_again:
                self._counts["broken, come again"] += 1
                self._come_again(connection.voter, 0.0)
        task = asyncio.get_running_loop().create_task(self._reconnect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _come_again(self, voter: int, wait_s: float) -> None:
        self._tries[voter] = self._tries.get(voter, 0) + 1
        self._again.append((time.perf_counter() + wait_s, voter))

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), self._spec.host, self._spec.port)
        self._free.append(connection)

    async def _reconnect(self) -> None:
        try:
            await self._connect()
        except OSError:
            self._counts["connection refused"] += 1

    def _result(self, start: float, cores: float) -> SurgeResult:
        sent = len(self._records) // 4
        Path(self._spec.records).write_bytes(self._records.tobytes())
        late = sorted(1000 * (self._records[at + 1] - self._records[at]) for at in range(0, 4 * sent, 4))
        return SurgeResult(
            started_at=start,
            due=self._due,
            sent=sent,
            unsent=self._due - sent,
            unanswered=sum(1 for at in range(3, 4 * sent, 4) if self._records[at] == _UNANSWERED),
            counts=dict(self._counts),
            tries=dict(self._outcomes) | ({"none": len(self._tries)} if self._tries else {}),
            distinct_receipts=len(self._receipts),
            voters=self._next_voter,
            exhausted=self._exhausted,
            client_cpu=cores,
            sent_late_ms=percentile(late, 0.99),
        )


async def _main() -> None:
    give_way()
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=SurgeSpec)
    requests = read_requests(Path(spec.requests))
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing that the loop leaves behind is a cycle
    result = await Surge(spec, requests).run()
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    uvloop.run(_main())
