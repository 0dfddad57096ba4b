"""How a process leaves: idle connections and streams go a few at a time, so that they do not come back all at once."""

import asyncio
import fcntl
import math
import random
import struct
import termios
import time
from collections.abc import Collection

import structlog

from api.http.connection import Connection, Reading
from api.http.shared import ServingLimits, Shared

_TURN_S = 0.02

log = structlog.get_logger(__name__)


def say_close(connections: Collection[Connection]) -> None:
    """Let the answers that are being made be the last of their connections; later requests know by themselves."""
    for connection in connections:
        if connection.cycle is not None and not _idle(connection):
            connection.cycle.keep_alive = False


async def close_idle(connections: Collection[Connection], limits: ServingLimits) -> None:
    """Close connections that wait for nothing, within `limits.idle_s`, those first that have waited longest.

    A request that comes meanwhile is answered, and that closes its connection. One that is on the way when the
    connection closes is lost, as with every server: its client has to send it again.
    """
    ends_at = time.monotonic() + limits.idle_s
    while True:
        waiting = sorted((each for each in connections if _idle(each)), key=lambda each: each.since)
        left = ends_at - time.monotonic()
        if left <= 0 or not connections:
            return
        await asyncio.sleep(min(_TURN_S, left))
        for connection in waiting[: math.floor(len(waiting) * _TURN_S / left)]:
            if _idle(connection) and not _unread(connection):
                connection.transport.close()


async def hand_over(shared: Shared) -> None:
    """Tell streams to end, in no order, `limits.handed_over_per_s` of them or as many as `limits.handover_s` needs."""
    limits = shared.limits
    told: set[asyncio.Transport] = set()
    ends_at = time.monotonic() + limits.handover_s
    while waiting := [transport for transport in shared.detached if transport not in told]:
        left = max(_TURN_S, ends_at - time.monotonic())
        pace = max(limits.handed_over_per_s, len(waiting) / left)
        for transport in random.sample(waiting, min(len(waiting), math.ceil(pace * _TURN_S))):
            told.add(transport)
            _tell(shared, transport)
        await asyncio.sleep(_TURN_S)
        shared.forget_closed()
        told &= shared.detached.keys()


def _tell(shared: Shared, transport: asyncio.Transport) -> None:
    try:
        shared.detached[transport]()
    except Exception:  # one stream that cannot end must not keep the process from stopping
        log.exception("stop_failed")


def _idle(connection: Connection) -> bool:
    return connection.reading is Reading.BETWEEN and not connection.busy and not connection.pipeline


def _unread(connection: Connection) -> bool:
    """Tell whether something has arrived that the event loop has not seen yet."""
    handle = connection.transport.get_extra_info("socket")
    if handle is None or handle.fileno() < 0:
        return False
    (waiting,) = struct.unpack("i", fcntl.ioctl(handle.fileno(), termios.FIONREAD, bytes(4)))
    return bool(waiting)
