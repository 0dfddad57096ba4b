"""Connections that were just refused: read from again when the process has time, and soon in any case."""

import asyncio
import time
from collections import deque
from typing import Final, Protocol

_LOOK_EVERY_S: Final = 0.001  # the finest timer of the event loop
_ON_TIME_S: Final = 0.001  # a timer that is later than this was held up by something more useful than refusals
_GROUP_LEAST: Final = 4
_GROUP_MOST: Final = 64  # two milliseconds of refusals, which nobody else notices
_REST_MOST_S: Final = 0.03


class Resting(Protocol):
    """A connection that is not read from for a moment."""

    def read_again(self) -> None:
        """Go on reading; a no-op where it has closed."""
        ...


class RestingConnections:
    """One per process.

    Refusing takes time as well, and a loop that is never without refusals holds up every step of the votes that were
    taken. While a batch waits for its servers the loop has nothing else to do. So refusals are made then: who was
    refused is not read from until a timer comes on time, and what is sent meanwhile waits with the kernel, where it
    costs nothing. As long as timers come on time, twice as many are read from each time.
    """

    def __init__(self) -> None:
        self._resting: deque[tuple[float, Resting]] = deque()
        self._group = _GROUP_LEAST
        self._due: float | None = None  # when the next look is due; None: nobody rests

    def __len__(self) -> int:
        return len(self._resting)

    def rest(self, connection: Resting) -> None:
        """Take a connection that the caller has stopped reading from; `read_again` is called when it has rested."""
        self._resting.append((time.perf_counter() + _REST_MOST_S, connection))
        if self._due is None:
            self._plan()

    def _plan(self) -> None:
        self._due = time.perf_counter() + _LOOK_EVERY_S
        asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        now = time.perf_counter()
        assert self._due is not None
        if now - self._due < _ON_TIME_S:
            self._group = wanted = min(2 * self._group, _GROUP_MOST)
        else:
            self._group, wanted = _GROUP_LEAST, 0
        while self._resting and (wanted > 0 or self._resting[0][0] <= now):
            self._resting.popleft()[1].read_again()
            wanted -= 1
        self._due = None
        if self._resting:
            self._plan()
