"""Keeps a process's set of revoked sessions: told by Redis within milliseconds, and by PostgreSQL four times a second.

The second way makes the first dispensable: Redis may be away, or whoever ended a session may have died before he said
so. Each look is one range of an index that holds the ends of a few seconds.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Protocol

import structlog

from domain.errors import DomainError
from domain.sessions import RevokedSessions
from integrations.postgres.ended_sessions import EndedSessions
from integrations.postgres.pool import Pool
from integrations.redis.ended_sessions import EndedSessionsChannel

LOOK_EVERY_S = 0.25
_FORGET_EVERY = 240  # looks

log = structlog.get_logger(__name__)


class RunBeside(Protocol):
    """Runs work until a lifetime ends."""

    def __call__(self, lifetime: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
        """Start the work."""
        ...


class RevocationFeed:
    """What one cell's ends of sessions reach a process by."""

    def __init__(
        self,
        cell: str,
        revoked: RevokedSessions,
        pool: Pool,
        channel: EndedSessionsChannel,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cell = cell
        self._revoked = revoked
        self._ended = EndedSessions(pool)
        self._channel = channel
        self._now = now

    async def open(self, lifetime: AsyncExitStack, run_beside: RunBeside) -> None:
        """Learn of every session that matters, then of each that ends, until `lifetime` does.

        Raises:
            DomainError: `directory_unavailable`; without the first look nobody of this cell may be let in.
        """
        self._add(await self._ended.news())
        run_beside(lifetime, self._channel.listen(self._add))
        run_beside(lifetime, self._look())

    def _add(self, session_ids: list[str]) -> None:
        self._revoked.add(session_ids, self._now())

    async def _look(self) -> None:
        looks, away = 0, False
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            looks += 1
            try:
                self._add(await self._ended.news())
            except DomainError as error:
                if not away:
                    log.warning("ended_sessions_not_read", cell=self._cell, error=error.detail)
                away = True
            else:
                if away:
                    log.info("ended_sessions_read_again", cell=self._cell)
                away = False
            if looks % _FORGET_EVERY == 0:
                self._revoked.forget(self._now())
