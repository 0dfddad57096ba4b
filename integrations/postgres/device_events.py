"""Device events that one cell has taken, by the SHA-256 of their ids, in `identity.device_event`."""

import hashlib

import asyncpg

from domain.device_events import EVENTS_KEPT
from domain.errors import ErrorCode
from integrations.postgres.failures import unavailable_as

# Who comes second waits for the first, and then gets to know whether it was the same request.
_USE = """
INSERT INTO identity.device_event AS kept (event_hash, used_for) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT pk_device_event DO UPDATE SET used_for = kept.used_for
RETURNING used_for = $2
"""
_FORGET_OLDER = "DELETE FROM identity.device_event WHERE used_at < now() - $1::interval"


class PostgresDeviceEvents:
    """Implements `UsedDeviceEvents`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def use(self, event_id: str, request: str) -> bool:
        """Use an event for a request; False where another request has used it."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return bool(await self._pool.fetchval(_USE, hashlib.sha256(event_id.encode()).digest(), request))

    async def forget_older(self) -> int:
        """Forget events that no policy takes any more, and return how many."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_FORGET_OLDER, EVENTS_KEPT)).rpartition(" ")[2])
