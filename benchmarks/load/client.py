"""The load client: raw HTTP/1.1 over keep-alive connections, about 20 microseconds of CPU per request.

One event loop, requests built before the clock starts, times kept in arrays of a fixed size. Answers are read just far
enough to be checked: status line, Content-Length, and a few fields of the JSON body.
"""

import asyncio
import contextlib
import time
from collections import deque
from typing import cast

from benchmarks.load.answers import Answers
from benchmarks.load.spec import LoadResult, LoadSpec

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_TICK_S = 0.001  # how often a paced load looks for requests that are due


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    __slots__ = ("_buffer", "_load", "index", "port", "transport")

    def __init__(self, load: "Load", port: int) -> None:
        self._load = load
        self.port = port
        self._buffer = b""
        self.index = -1  # of the request in flight; -1: none
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is registered as no such class

    def data_received(self, data: bytes) -> None:
        """Hand the answer on once all of it is here."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        head = data.find(_HEAD_END)
        if head >= 0:
            at = data.find(_LENGTH, 0, head)
            if at < 0:
                at = data[:head].lower().find(_LENGTH)
            body = head + 4
            length = int(data[at + 16 : data.find(b"\r\n", at, head + 2)]) if at >= 0 else 0
            if len(data) >= body + length:
                index, self.index = self.index, -1
                self._load.answered(self, index, data[9:12], data[body : body + length])
                return
        self._buffer = data

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the load, which counts what was in flight as unanswered and connects again."""
        del exc
        self.transport = None
        self._load.broken(self)


class Load:
    """One run of one `LoadSpec` over requests in memory."""

    def __init__(self, spec: LoadSpec, requests: list[bytes]) -> None:
        self._spec = spec
        self._requests = requests
        self._answers = Answers(spec, len(requests))
        self._next = 0
        self._free: deque[Connection] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._running = False
        self._drained = asyncio.Event()

    async def run(self) -> LoadResult:
        """Connect, run for the asked time, wait for what is in flight, and count."""
        ports = self._spec.ports
        await asyncio.gather(*(self._connect(ports[n % len(ports)]) for n in range(self._spec.connections)))
        cpu, start = time.process_time(), time.perf_counter()
        self._running = True
        if self._spec.rate:
            await self._pace(start)
        else:
            for _ in range(len(self._free)):
                self._send_next(self._free.popleft())
            await self._drain(self._spec.duration_s)
        self._running = False
        end, used = time.perf_counter(), time.process_time() - cpu
        if self._in_flight:
            self._drained.clear()
            await self._drain(self._spec.drain_s)
        return self._answers.result(self._next, start, end, used)

    def answered(self, connection: Connection, index: int, status: bytes, body: bytes) -> None:
        """Count one answer and go on with the connection."""
        if index < 0:
            self._answers.add_fault("unasked")
            return
        self._in_flight -= 1
        self._answers.add(index, status, body)
        if not self._running:
            if self._in_flight == 0:
                self._drained.set()
        elif self._spec.rate:
            self._free.append(connection)
        else:
            self._send_next(connection)

    def broken(self, connection: Connection) -> None:
        """Account for a connection that ended; a running load opens another."""
        if connection.index >= 0:
            self._in_flight -= 1
            connection.index = -1
        if self._running:
            task = asyncio.get_running_loop().create_task(self._reconnect(connection.port))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        elif self._in_flight == 0:
            self._drained.set()

    def _send_next(self, connection: Connection) -> None:
        if self._next < len(self._requests):
            self._send(connection, time.perf_counter())
        elif self._in_flight == 0:
            self._drained.set()  # nothing left to send or to wait for

    def _send(self, connection: Connection, due: float) -> None:
        if connection.transport is None:
            return
        index = self._next
        self._next = index + 1
        self._in_flight += 1
        self._answers.sent_at[index] = due
        connection.index = index
        connection.transport.write(self._requests[index])

    async def _pace(self, start: float) -> None:
        step, end, limit = 1 / self._spec.rate, start + self._spec.duration_s, len(self._requests)
        while (now := time.perf_counter()) < end and self._next < limit:
            while self._free and self._next < limit and (due := start + self._next * step) <= now:
                self._send(self._free.popleft(), due)
            await asyncio.sleep(_TICK_S)

    async def _drain(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), limit_s)

    async def _connect(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self, port), self._spec.host, port)
        self._free.append(connection)

    async def _reconnect(self, port: int) -> None:
        try:
            await self._connect(port)
        except OSError:
            self._answers.add_fault("connection_refused")
            return
        if self._running and not self._spec.rate:
            self._send_next(self._free.pop())
