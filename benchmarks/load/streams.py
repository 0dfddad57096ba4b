"""`python -m benchmarks.load.streams`: hold many event streams open and note when each total arrived.

Reads one JSON spec from standard input. Says `ready` in a line when every stream had its first event, goes on until
standard input closes or the time is up, then prints one JSON result. Arrivals go to a file.
"""

import asyncio
import contextlib
import gc
import sys
import time
from array import array
from pathlib import Path
from typing import cast

import msgspec
import uvloop

_TOTAL = b'"totalResponses":'
_EVENT_END = b"\n\n"
_CONNECT_AT_ONCE = 200


class StreamSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`limit_s` bounds the whole; `arrivals` is where float64 triples go: stream, total, monotonic instant."""

    port: int
    path: str
    streams: int
    arrivals: str
    limit_s: float
    host: str = "127.0.0.1"


class StreamResult(msgspec.Struct, frozen=True):
    """What became of the streams."""

    opened: int  # had a first event
    lost: int  # ended before we did
    events: int
    client_cpu: float  # cores, from the moment that all were open


class Stream(asyncio.Protocol):
    """One event stream; notes the total of every event that carries one."""

    __slots__ = ("_buffer", "_number", "_reader", "has_begun", "transport")

    def __init__(self, reader: "Reader", number: int) -> None:
        self._reader = reader
        self._number = number
        self._buffer = b""
        self.has_begun = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._reader.request)

    def data_received(self, data: bytes) -> None:
        """Note the newest total of the events that are complete."""
        now = time.perf_counter()
        data = self._buffer + data
        end = data.rfind(_EVENT_END)
        if end < 0:
            self._buffer = data
            return
        self._buffer = data[end + 2 :]
        at = data.rfind(_TOTAL, 0, end)
        if at >= 0:
            at += len(_TOTAL)
            digits = data[at : at + 20].lstrip()
            self._reader.arrived(self, self._number, int(digits[: _digits(digits)]), now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it."""
        del exc
        self._reader.lost += 1


class Reader:
    """All streams of one process."""

    def __init__(self, spec: StreamSpec) -> None:
        self._spec = spec
        self.request = (
            f"GET {spec.path} HTTP/1.1\r\nHost: {spec.host}:{spec.port}\r\nAccept: text/event-stream\r\n\r\n"
        ).encode()
        self.lost = 0
        self._begun = 0
        self._arrivals = array("d")
        self._streams: list[Stream] = []
        self._all_begun = asyncio.Event()

    @property
    def events(self) -> int:
        """Arrivals noted so far."""
        return len(self._arrivals) // 3

    def arrived(self, stream: Stream, number: int, total: int, now: float) -> None:
        """Note one arrival."""
        self._arrivals.extend((number, total, now))
        if not stream.has_begun:
            stream.has_begun = True
            self._begun += 1
            if self._begun == self._spec.streams:
                self._all_begun.set()

    async def run(self, ended: asyncio.Event) -> StreamResult:
        """Open every stream, say so, and read until told to end."""
        await self._open()
        async with asyncio.timeout(self._spec.limit_s):
            await self._all_begun.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        gc.freeze()
        cpu, start = time.process_time(), time.perf_counter()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), self._spec.limit_s)
        cores = (time.process_time() - cpu) / (time.perf_counter() - start)
        return self._result(cores)

    def _result(self, cores: float) -> StreamResult:
        result = StreamResult(self._begun, self.lost, self.events, cores)
        for stream in self._streams:
            if stream.transport is not None:
                stream.transport.abort()
        Path(self._spec.arrivals).write_bytes(self._arrivals.tobytes())
        return result

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        for start in range(0, self._spec.streams, _CONNECT_AT_ONCE):
            group = [Stream(self, n) for n in range(start, min(start + _CONNECT_AT_ONCE, self._spec.streams))]
            self._streams += group
            await asyncio.gather(
                *(loop.create_connection(lambda s=s: s, self._spec.host, self._spec.port) for s in group)  # type: ignore[misc]
            )


def _digits(text: bytes) -> int:
    count = 0
    while text[count : count + 1].isdigit():
        count += 1
    return count


async def _main() -> None:
    loop = asyncio.get_running_loop()
    spec = msgspec.json.decode(await loop.run_in_executor(None, sys.stdin.buffer.readline), type=StreamSpec)
    ended = asyncio.Event()

    def read_to_the_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    waiting = loop.run_in_executor(None, read_to_the_end)
    result = await Reader(spec).run(ended)
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.flush()
    await waiting


if __name__ == "__main__":
    uvloop.run(_main())
