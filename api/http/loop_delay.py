"""How late a process is: a timer that should fire now, and when it does."""

import asyncio
import time
from collections import deque
from typing import Final

_EVERY_S: Final = 0.02
_SAMPLES: Final = 8


class LoopDelay:
    """The standing delay of an event loop: the least of the last samples, so that one long step counts for nothing.

    What has just arrived waits at least this long before anybody looks at it.
    """

    def __init__(self) -> None:
        self._samples: deque[float] = deque([0.0] * _SAMPLES, maxlen=_SAMPLES)
        self.standing_s = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.perf_counter() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self.sampled(time.perf_counter() - due)

    def sampled(self, late_s: float) -> None:
        """Take in one sample."""
        self._samples.append(max(0.0, late_s))
        self.standing_s = min(self._samples)
