"""Hears of new snapshots of one cell's surveys: one connection per process, one subscription per survey."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from integrations.redis.tally_keys import TallyKeys

_WAIT_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0

log = structlog.get_logger(__name__)


class TallyChanges:
    """Calls back for every change of a subscribed survey.

    What happens while the connection is away is not heard, so every survey is called back for when it is there again;
    whoever must not miss a change looks from time to time besides.
    """

    def __init__(self, redis: Redis, cell: str) -> None:
        self._redis = redis
        self._cell = cell
        self._keys = TallyKeys.of(cell)
        self._listeners: dict[str, Callable[[], None]] = {}
        self._changed = asyncio.Event()

    def subscribe(self, survey_id: str, changed: Callable[[], None]) -> None:
        """Call `changed` on every change of a survey; it must not block."""
        self._listeners[self._keys.changes(survey_id)] = changed
        self._changed.set()

    def unsubscribe(self, survey_id: str) -> None:
        """Stop calling."""
        self._listeners.pop(self._keys.changes(survey_id), None)
        self._changed.set()

    async def run(self) -> None:
        """Listen until cancelled; log when the connection comes and goes."""
        pause, lost = _FIRST_PAUSE_S, False
        while True:
            try:
                await self._wait_for_listeners()
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await self._synchronize(pubsub, set())
                    if lost:
                        log.info("tally_changes_found", cell=self._cell)
                    pause, lost = _FIRST_PAUSE_S, False
                    for changed in tuple(self._listeners.values()):
                        changed()
                    await self._listen(pubsub)
            except (RedisError, OSError, TimeoutError) as error:
                if not lost:
                    log.warning("tally_changes_lost", cell=self._cell, error=type(error).__name__)
                lost = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _wait_for_listeners(self) -> None:
        while not self._listeners:
            self._changed.clear()
            await self._changed.wait()

    async def _listen(self, pubsub: PubSub) -> None:
        """Read messages; what is asked for changes between reads, so that one task uses the connection."""
        known = set(self._listeners)
        while self._listeners:
            reading = asyncio.ensure_future(pubsub.get_message(timeout=_WAIT_S))
            asked = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({reading, asked}, return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    known = await self._synchronize(pubsub, known)
                message = await reading
            finally:
                for waiting in (reading, asked):
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError, RedisError, OSError, TimeoutError):
                        await waiting
            if message is not None and message["type"] == "message":
                listener = self._listeners.get(message["channel"].decode())
                if listener is not None:
                    listener()

    async def _synchronize(self, pubsub: PubSub, known: set[str]) -> set[str]:
        self._changed.clear()
        wanted = set(self._listeners)
        if new := wanted - known:
            await pubsub.subscribe(*new)
        if gone := known - wanted:
            await pubsub.unsubscribe(*gone)
        return wanted
