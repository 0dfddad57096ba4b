"""From one build to the next: a worker takes over when it starts, and stays until its own executions have ended."""

import asyncio
import time
from contextlib import suppress

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from integrations.settings import Settings
from integrations.temporal.worker import Release, is_current, make_current, open_executions

_RETRY_S = 0.2
_LOOK_EVERY_S = 0.5
_ANSWER_WITHIN_S = 5.0
_QUIET_LOOKS = 3  # what Temporal lists follows what happens, usually within a second

log = structlog.get_logger()


async def take_over(client: Client, release: Release, settings: Settings, stopping: asyncio.Event) -> None:
    """Make this build the current one; return when it is, or when the process is to stop.

    A worker that only finishes what its build began (`worker_takes_over` is false) leaves the current one alone.
    """
    while settings.worker_takes_over and not stopping.is_set() and not await make_current(client, release):
        await _pause(stopping, _RETRY_S)


async def drain(client: Client, release: Release, within_s: float) -> None:
    """Return when nothing is left that only this build can go on with, at once where it is the current one.

    Then other processes of the build go on. A version that was replaced has nobody else, so its last worker stays,
    `within_s` at most. What is left then waits for a worker of this build, and is not lost.
    """
    if not await _replaced(client, release):
        return
    give_up_at, quiet, left = time.monotonic() + within_s, 0, -1
    while quiet < _QUIET_LOOKS and time.monotonic() < give_up_at:
        with suppress(RPCError):  # Temporal is away: nothing can be said, and nothing done either
            found = await open_executions(client, release)
            if found != left:
                log.info("draining", namespace=client.namespace, build=release.build, executions=found)
            left, quiet = found, 0 if found else quiet + 1
        await asyncio.sleep(_LOOK_EVERY_S)
    event = "drained" if quiet >= _QUIET_LOOKS else "not_drained"
    log.info(event, namespace=client.namespace, build=release.build, executions=left)


async def _replaced(client: Client, release: Release) -> bool:
    """Tell whether another build is the current one; where nobody can say so soon, this one leaves as if not."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            return not await is_current(client, release)
    except (RPCError, TimeoutError) as error:
        log.warning("drain_unknown", namespace=client.namespace, build=release.build, error=type(error).__name__)
        return False


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
