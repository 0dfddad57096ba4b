"""Places of which only so many are taken at once, and how many wait for one."""

import asyncio
from typing import Literal


class Turns(asyncio.Semaphore):
    """A semaphore that tells how many wait for it."""

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self._wanted = 0

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return self._wanted

    async def acquire(self) -> Literal[True]:
        """Wait for a place."""
        self._wanted += 1
        try:
            return await super().acquire()
        finally:
            self._wanted -= 1
