"""Device events that one cell has taken, by the SHA-256 of their ids, in `identity.device_event`."""

import hashlib

import asyncpg

from domain.device_events import EVENTS_KEPT, EventUse
from domain.errors import ErrorCode
from integrations.postgres.failures import unavailable_as

# Who comes second waits for the first, and then gets to know whether it was the same request.
_AGAIN = "ON CONFLICT ON CONSTRAINT pk_device_event DO UPDATE SET used_for = kept.used_for"
_USE = f"""
INSERT INTO identity.device_event AS kept (event_hash, used_for) VALUES ($1, $2) {_AGAIN} RETURNING used_for = $2
"""  # noqa: S608 - of constants
_FORGET_OLDER = "DELETE FROM identity.device_event WHERE used_at < now() - $1::interval"


def used_with(first: int) -> str:
    """Return what uses an event as `use` does, as a part of another statement: one row of `fresh`, or none.

    Its parameters from `first` on are those of `used`.
    """
    event, request = f"${first}::bytea", f"${first + 1}::text"
    return f"""
INSERT INTO identity.device_event AS kept (event_hash, used_for) SELECT {event}, {request} WHERE {event} IS NOT NULL
{_AGAIN} RETURNING used_for = {request} AS fresh
"""


def used(use: EventUse | None) -> tuple[bytes | None, str | None]:
    """Return the parameters of `used_with`, which does nothing without an event."""
    return (None, None) if use is None else (_hashed(use.event_id), use.request)


class PostgresDeviceEvents:
    """Implements `UsedDeviceEvents`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def use(self, event_id: str, request: str) -> bool:
        """Use an event for a request; False where another request has used it."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return bool(await self._pool.fetchval(_USE, _hashed(event_id), request))

    async def forget_older(self) -> int:
        """Forget events that no policy takes any more, and return how many."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_FORGET_OLDER, EVENTS_KEPT)).rpartition(" ")[2])


def _hashed(event_id: str) -> bytes:
    return hashlib.sha256(event_id.encode()).digest()
