"""Closes what takes too long: one sweep of the process instead of a timer per request."""

import asyncio
import time
from collections.abc import Collection

from api.http.connection import Connection, Reading
from api.http.shared import Shared
from domain.errors import ErrorCode


async def sweep(connections: Collection[Connection], shared: Shared) -> None:
    """Look at every connection once per `sweep_s`, until cancelled."""
    while True:
        await asyncio.sleep(shared.limits.sweep_s)
        now = time.perf_counter()
        for connection in list(connections):
            _examine(connection, now, shared)
        shared.forget_closed()


def _examine(connection: Connection, now: float, shared: Shared) -> None:
    limits = shared.limits
    waited = now - connection.since
    if connection.discarding:
        if waited > limits.linger_s:
            connection.transport.abort()
    elif connection.flow.write_paused:
        _examine_reader(connection, now, shared)
    elif connection.reading is Reading.HEAD:
        if waited > limits.head_s:
            connection.refuse(ErrorCode.REQUEST_TIMEOUT)
    elif connection.reading is Reading.BODY:
        if waited > limits.request_s and not connection.flow.read_paused:
            _end_slow_body(connection)
    elif waited > limits.keep_alive_s and not connection.busy and not connection.pipeline:
        connection.transport.close()


def _examine_reader(connection: Connection, now: float, shared: Shared) -> None:
    limits, unsent = shared.limits, connection.transport.get_write_buffer_size()
    if connection.unread.too_slow(now, unsent, window_s=limits.write_s, bytes_per_s=limits.write_bytes_per_s):
        shared.cut_off.inc()
        connection.transport.abort()


def _end_slow_body(connection: Connection) -> None:
    if connection.cycle is None or connection.cycle.response_complete:
        connection.transport.close()  # answered already; only the rest of a body that nobody wants is missing
    else:
        connection.refuse(ErrorCode.REQUEST_TIMEOUT)
