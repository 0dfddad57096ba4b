"""Requests that may have to be refused: held until the process has time to look at them, and for a moment at most."""

import asyncio
import time
from collections import deque
from typing import Final, Protocol

_LOOK_EVERY_S: Final = 0.001  # the finest timer of the event loop
_ON_TIME_S: Final = 0.001  # a timer that is later than this was held up by something more useful than refusals
_GROUP_LEAST: Final = 4
_GROUP_MOST: Final = 64  # two milliseconds of refusals, which nobody else notices
_HELD_MOST_S: Final = 0.03


class Holder(Protocol):
    """A connection with a request that nobody has looked at yet."""

    def look(self) -> None:
        """Refuse the request or take it; a no-op where there is none any more."""
        ...


class HeldRequests:
    """One per process.

    Refusing takes time as well, and a loop that is never without refusals holds up every step of the votes that were
    taken. While a batch waits for its servers the loop has nothing else to do. So refusals are made then: what comes
    while requests may have to be refused is not looked at until a timer comes on time. As long as timers come on time,
    twice as many are looked at each time.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[float, Holder]] = deque()
        self._group = _GROUP_LEAST
        self._due: float | None = None  # when the next look is due; None: nothing is held

    def __len__(self) -> int:
        return len(self._held)

    def add(self, holder: Holder) -> None:
        """Take a connection with a request; its `look` is called once."""
        self._held.append((time.perf_counter() + _HELD_MOST_S, holder))
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
        while self._held and (wanted > 0 or self._held[0][0] <= now):
            self._held.popleft()[1].look()
            wanted -= 1
        self._due = None
        if self._held:
            self._plan()
