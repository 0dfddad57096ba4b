"""Brings back processes that end without being told to."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from comitia.stack.process import ManagedProcess, StartError

_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.5, 30.0
_STEADY_S = 60.0  # after this long a death counts as the first again


class Keeper:
    """Starts processes again when they end by themselves, at growing intervals, and says so."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, process: ManagedProcess, start: Callable[[], Awaitable[None]]) -> None:
        """Watch a running process from now on."""
        task = asyncio.create_task(self._keep(process, start), name=f"keep-{process.name}")
        self._tasks.add(task)

    async def close(self) -> None:
        """Watch no longer; what runs goes on. Safe to repeat."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, process: ManagedProcess, start: Callable[[], Awaitable[None]]) -> None:
        backoff = _BACKOFF_FIRST_S
        while True:
            began = time.monotonic()
            status = await process.wait()
            if process.stopping:
                return
            backoff = _BACKOFF_FIRST_S if time.monotonic() - began > _STEADY_S else backoff
            self._say(f"{process.name} ended ({_meaning(status)}); again in {backoff:.1f} s. Its log: {process.log}")
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _BACKOFF_MOST_S)
            try:
                await start()
            except (OSError, StartError) as error:
                self._say(f"{process.name} did not start: {error}")


def _meaning(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
