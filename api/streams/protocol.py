"""One live stream: the few bytes of state that ten thousand of them cost."""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from integrations.telemetry.metrics import StreamMetrics

Positions = Mapping[str, tuple[int, int]]  # epoch and sequence number of each cell's totals

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-store\r\n"
    b"connection: close\r\n"  # the body ends with the connection
    b"x-accel-buffering: no\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"referrer-policy: no-referrer\r\n"
)
_TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
HEARTBEAT: Final = b":\n\n"
HANDOVER: Final = b"retry: %d\nevent: handover\ndata: {}\n\n"
COME_BACK_MS: Final = (100, 2000)  # besides, streams do not all end at once
_UNSENT_MAX: Final = 16 * 1024  # bytes that the kernel takes before the wire does: old snapshots are of no use there
_READ_MAX: Final = 16 * 1024  # bytes that a client may send behind its request before it is cut off


class Broadcast(Protocol):
    """What a stream shows."""

    frame: bytes  # the newest snapshot, as it goes over the wire
    version: int  # rises with every frame

    def behind(self, seen: Positions, waited_s: float) -> bool:
        """Tell whether the newest snapshot is older than what somebody has seen, and worth waiting for a newer one."""
        ...

    def left(self, stream: "Stream") -> None:
        """Forget a stream."""
        ...


class Stream(asyncio.Protocol):
    """Takes over a transport after the head was written.

    While the transport cannot take more, nothing is queued: the newest frame is written when it can again.
    """

    __slots__ = (
        "broadcast",
        "lost",
        "metrics",
        "opened_at",
        "read_bytes",
        "seen",
        "slot",
        "stuck_since",
        "transport",
        "version",
    )

    transport: asyncio.Transport

    def __init__(self, broadcast: Broadcast, metrics: StreamMetrics, slot: int) -> None:
        self.broadcast = broadcast
        self.metrics = metrics
        self.slot = slot  # of the heartbeat wheel
        self.lost: Callable[[], None] | None = None  # called once, when the connection is gone
        self.version = 0
        self.opened_at = time.monotonic()
        self.stuck_since = 0.0
        self.read_bytes = 0
        self.seen: Positions | None = None  # elsewhere, and newer than what is shown here so far

    def start(self, transport: asyncio.Transport, head: bytes) -> None:
        """Take the transport over and write the head of the response."""
        self.transport = transport
        _keep_little_unsent(transport)
        transport.set_protocol(self)
        # 0: paused as soon as the kernel does not take all of a frame
        transport.set_write_buffer_limits(high=0)
        transport.write(head)

    def show(self) -> bool:
        """Write the newest frame unless this stream has it or cannot take it; tell whether it was written."""
        if self.version == self.broadcast.version:
            return False
        if self.stuck_since:
            self.metrics.coalesced.inc()
            return False
        if self.seen is not None:
            if self.broadcast.behind(self.seen, time.monotonic() - self.opened_at):
                return False
            self.seen = None
        self.version = self.broadcast.version
        self.transport.write(self.broadcast.frame)
        return True

    def beat(self, now: float, stuck_max_s: float) -> None:
        """Show that the connection lives, or end it where nobody has read for too long."""
        if not self.stuck_since:
            self.transport.write(HEARTBEAT)
            if self.seen is not None and self.show():
                self.metrics.messages_out.inc()
        elif now - self.stuck_since > stuck_max_s:
            self.metrics.dropped.inc()
            self.transport.abort()

    def end(self) -> None:
        """Say that somebody else goes on, and when to come there; close after what was written."""
        if not self.transport.is_closing():
            retry_ms = random.randint(*COME_BACK_MS)  # noqa: S311 - spread only
            self.transport.write(HANDOVER % retry_ms)
            self.transport.close()

    def pause_writing(self) -> None:
        """Note that the reader is slow."""
        self.stuck_since = time.monotonic()

    def resume_writing(self) -> None:
        """Catch up with the newest frame."""
        self.stuck_since = 0.0
        if self.show():
            self.metrics.messages_out.inc()

    def data_received(self, data: bytes) -> None:
        """Discard what a client sends behind its request, but not without end."""
        self.read_bytes += len(data)
        if self.read_bytes > _READ_MAX:
            self.transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """Leave the broadcast."""
        self.metrics.closed(time.monotonic() - self.opened_at)
        self.broadcast.left(self)
        if self.lost is not None:
            self.lost()


def _keep_little_unsent(transport: asyncio.Transport) -> None:
    handle = transport.get_extra_info("socket")
    if handle is not None and handle.family in {socket.AF_INET, socket.AF_INET6}:
        handle.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_MAX)
