"""How many logins one process works on at once: who comes next waits in turn, who finds too many waiting is told.

Most who are told never get here: a full room is the gate of the route, so they are refused by the bytes of their
request, before it is parsed (`api/http/refusing.py`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Final

from api.http.refusing import RETRY_AFTER_S
from domain.errors import DomainError, ErrorCode
from integrations.deadlines import within

# A process lets in twenty to thirty a second on a core of its own, so whoever has a place is answered in a second or so
# and waits half of that for one. More places would make nobody's login faster, and fewer would let a vendor that takes
# its whole 1.5 s bring all logins to a handful a second.
AT_ONCE: Final = 24
WAITING_MAX: Final = 12
_LONGEST_S: Final = 60.0


class LoginRoom:
    """First come, first served. Whoever gives up leaves the queue, or the place, to the next (`api/http/patience.py`).

    A further factor of a login that was begun takes no place here: no number of new logins keeps it from its end.
    """

    def __init__(self, *, at_once: int = AT_ONCE, waiting_max: int = WAITING_MAX) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._waiting_max = waiting_max
        self._retry_after_s = cycle(RETRY_AFTER_S)
        self.working = 0
        self.waiting = 0

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return self.waiting >= self._waiting_max and self._turn.locked()

    def refuses(self, parameter: str, authorization: bytes) -> bool:  # noqa: ARG002 - a login claims to be nobody
        """Tell whether a login is refused, as a gate of its route."""
        return self.full

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Have a place within the block, once it is one's turn.

        Raises:
            DomainError: `overloaded` at once where too many wait, `deadline_exceeded` where the caller has waited
                enough when its turn comes.
        """
        if self.full:
            raise DomainError(ErrorCode.OVERLOADED, retry_after_s=next(self._retry_after_s))
        self.waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        self.working += 1
        try:
            within(_LONGEST_S)
            yield
        finally:
            self.working -= 1
            self._turn.release()
