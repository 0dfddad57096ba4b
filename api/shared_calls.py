"""Calls to what all processes of a cell share: nobody waits for it long, and whoever asks goes on without it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from domain.errors import DomainError

PAUSE_S: Final = 1.0  # after a failure, before it is asked again

T = TypeVar("T")
log = structlog.get_logger(__name__)


class SharedCalls:
    """Bounds calls in time, and leaves what fails alone for a moment."""

    def __init__(self, name: str, *, limit_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """Call what is asked `name` in logs, and wait `limit_s` for an answer."""
        self._name = name
        self._limit_s = limit_s
        self._now = now
        self._failed_at: float | None = None
        self._given_up: set[asyncio.Future[Any]] = set()

    @property
    def is_away(self) -> bool:
        """Whether the last call had no answer."""
        return self._failed_at is not None

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Return what a call answers; None where it raised DomainError or was late, and for a while after that."""
        if self._failed_at is not None and self._now() - self._failed_at < PAUSE_S:
            return None
        try:
            answer = await self._within_limit(call())
        except (DomainError, TimeoutError) as error:
            if self._failed_at is None:
                code = error.code if isinstance(error, DomainError) else "late"
                log.warning("shared_calls_failing", called=self._name, code=code)
            self._failed_at = self._now()
            return None
        if self._failed_at is not None:
            self._failed_at = None
            log.info("shared_calls_answered", called=self._name)
        return answer

    async def _within_limit(self, call: Awaitable[T]) -> T:
        """Return what a call answers, if it does within the limit.

        What is late is cancelled and not waited for: a client may take a second to give up a connection that says
        nothing. The limit is waited for in two halves: a pause of this very process ends the first at once and leaves
        the second.

        Raises:
            TimeoutError: it does not.
        """
        asked = asyncio.ensure_future(call)
        try:
            for _ in range(2):
                done, _ = await asyncio.wait({asked}, timeout=self._limit_s / 2)
                if done:
                    return asked.result()
        finally:
            if asked.cancel():
                self._given_up.add(asked)  # keeps it from being collected before it has ended
                asked.add_done_callback(self._ended)
        raise TimeoutError

    def _ended(self, asked: asyncio.Future[Any]) -> None:
        self._given_up.discard(asked)
        if not asked.cancelled():
            asked.exception()  # whatever became of it, nobody waits for it any more
