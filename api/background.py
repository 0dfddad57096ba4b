"""Work that goes on beside the requests of a process, for as long as its wiring lasts."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack

import structlog

CANCEL_AGAIN_S = 2.0  # longer than any of this work needs to end

log = structlog.get_logger()


def run_beside(lifetime: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Run `work` until `lifetime` ends; it should not end by itself, and is logged where it does."""
    task = asyncio.create_task(work)
    task.add_done_callback(_ended)
    lifetime.push_async_callback(cancel, task)


async def cancel(task: asyncio.Task[None], *, again_s: float = CANCEL_AGAIN_S) -> None:
    """Cancel a task and wait until it is over; how it ended is its own affair.

    It is cancelled again where it goes on: a driver may swallow a cancellation in its own waiting.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=again_s)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_work_failed", work=task.get_coro().__qualname__, exc_info=error)  # type: ignore[union-attr]
