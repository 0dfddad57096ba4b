"""Tells the processes of one cell which sessions have ended, as it happens; what is missed here is read elsewhere."""

import asyncio
from collections.abc import Callable, Iterable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.errors import DomainError, ErrorCode
from integrations.redis.connection import redis_failures

_WAIT_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0

log = structlog.get_logger(__name__)


class EndedSessionsChannel:
    """One channel per cell; a message is session ids, one a line."""

    def __init__(self, redis: Redis, cell: str) -> None:
        self._redis = redis
        self._cell = cell
        self._channel = f"{cell}:sessions:ended"

    async def announce(self, session_ids: Iterable[str]) -> None:
        """Tell of sessions that have ended. Never raises: whoever is not told looks for himself at once."""
        ids = "\n".join(session_ids)
        if not ids:
            return
        try:
            with redis_failures(ErrorCode.DIRECTORY_UNAVAILABLE):
                await self._redis.publish(self._channel, ids)
        except DomainError as error:
            log.warning("ended_sessions_not_announced", cell=self._cell, error=error.detail)

    async def listen(self, ended: Callable[[list[str]], None]) -> None:
        """Call `ended` with what is announced, until cancelled; log when the connection comes and goes."""
        pause, lost = _FIRST_PAUSE_S, False
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(self._channel)
                    if lost:
                        log.info("ended_sessions_heard_again", cell=self._cell)
                    pause, lost = _FIRST_PAUSE_S, False
                    while True:
                        message = await pubsub.get_message(timeout=_WAIT_S)
                        if message is not None and message["type"] == "message":
                            ended(message["data"].decode().split("\n"))
            except (RedisError, OSError, TimeoutError) as error:
                if not lost:
                    log.warning("ended_sessions_not_heard", cell=self._cell, error=type(error).__name__)
                lost = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
