"""A server that is away is asked by one call of a process for all of them, until it answers again."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_BETWEEN_S = 0.1


class ServerAway:
    """Whether a server is away, as the calls of a process found it, and the wait of all of them for its return.

    `answers` asks it for something small and tells whether it answered. It is asked while somebody waits, ten times a
    second at most.
    """

    def __init__(self, answers: Callable[[], Awaitable[bool]]) -> None:
        self._answers = answers
        self._one = asyncio.Lock()  # who holds it asks, for all who wait for it
        self._asked_at = self._answered_at = self._silent_at = float("-inf")  # of the monotonic clock
        self.waiting = 0

    @property
    def is_away(self) -> bool:
        """Tell whether it did not answer when it was asked last."""
        return self._silent_at > self._answered_at

    async def came_back(self, since: float) -> bool:
        """Return when it answered somebody who asked after `since`: True where it was found away meanwhile.

        It waits without end: the caller stops it.
        """
        self.waiting += 1
        try:
            async with self._one:
                while self._answered_at < since:
                    await self._ask()
        finally:
            self.waiting -= 1
        return self._silent_at >= since

    async def _ask(self) -> None:
        await asyncio.sleep(self._asked_at + _BETWEEN_S - time.monotonic())
        self._asked_at = time.monotonic()
        if await self._answers():
            self._answered_at = self._asked_at
        else:
            self._silent_at = time.monotonic()
