"""Tries calls to Temporal again within a budget, in place of the driver's own retries, which know none.

The driver would try each call eight or nine times within ten seconds, whatever came of all the others. Here a server
that answers badly is asked again a tenth as often as it is asked, and one that is away by one call of the process: the
others wait for its return and go once. So a short restart fails nobody, and an outage multiplies nothing.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from temporalio.service import RPCError, RPCStatusCode

from domain.retry_budget import RetryBudget
from integrations.temporal.comings_back import ServerAway

Answer = TypeVar("Answer")

BURST: Final = 64  # retries that may come at once: all that was under way on a connection that broke
BROKEN: Final = frozenset(  # what the driver tries again, and what it says of a connection that broke
    {
        RPCStatusCode.ABORTED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.DATA_LOSS,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.OUT_OF_RANGE,
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.UNKNOWN,
    }
)
_PAUSE_S = 0.1
_BUSY_PAUSE_S = 1.0  # where the server says that it has too much to do
_LONGER = 1.5


class BudgetedRetries:
    """The retries of one connection's calls, which share what is known of the server."""

    def __init__(self, answers: Callable[[], Awaitable[bool]], *, patience_s: float = 10.0) -> None:
        """`answers` asks the server for something small and tells whether it answered.

        A call is tried again within `patience_s`, or until its caller cancels it.
        """
        self._patience_s = patience_s
        self._budget = RetryBudget(reserve=BURST)
        self._server = ServerAway(answers)

    @property
    def waiting(self) -> int:
        """Return how many calls wait for the server's return."""
        return self._server.waiting

    async def insist(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """Try until there is an answer. Repeating is safe: a request to Temporal carries an id that it is known by.

        Raises:
            RPCError: the last try's; `UNAVAILABLE` where there was none, as the server is away.
        """
        self._budget.requested()
        ends_at = time.monotonic() + self._patience_s
        if self._server.is_away and await self._came_back(ends_at) is None:
            raise RPCError("Temporal is away", RPCStatusCode.UNAVAILABLE, b"")
        tries = 0
        while True:
            try:
                return await attempt()
            except RPCError as error:
                tries += 1
                if not await self._is_worth(error.status, tries, ends_at):
                    raise

    async def _is_worth(self, status: RPCStatusCode, tries: int, ends_at: float) -> bool:
        """Return when another try is due, or tell that none is."""
        if status in BROKEN:
            was_away = await self._came_back(ends_at)
            if was_away is not False:
                return was_away is True
            pause_s = _PAUSE_S
        elif status is RPCStatusCode.RESOURCE_EXHAUSTED:
            pause_s = _BUSY_PAUSE_S
        else:
            return False
        pause_s *= _LONGER ** (tries - 1) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads, hides nothing
        if time.monotonic() + pause_s > ends_at or not self._budget.spend():
            return False
        await asyncio.sleep(pause_s)
        return True

    async def _came_back(self, ends_at: float) -> bool | None:
        """Return when the server answers whether it was away; None where it does not until `ends_at`."""
        now = time.monotonic()
        try:
            async with asyncio.timeout(ends_at - now):
                return await self._server.came_back(now)
        except TimeoutError:
            return None
