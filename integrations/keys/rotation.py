"""The end of in-flight keys: made anew every day, destroyed three days later, once no open execution needs them."""

from collections.abc import Awaitable, Callable
from datetime import date, timedelta

import structlog

from domain.ports import KeyManagement
from integrations.keys.key_ids import parse_key_id
from integrations.keys.purposes import in_flight

KEPT = timedelta(days=3)
_log = structlog.get_logger()


async def destroy_old_in_flight_keys(
    keys: KeyManagement, cell: str, today: date, is_needed: Callable[[str], Awaitable[bool]]
) -> tuple[str, ...]:
    """Destroy a cell's in-flight keys of `KEPT` ago and earlier; return the ids of those destroyed now.

    `is_needed(key_id)` tells whether an open execution may hold payloads under a key: such a key is left for the next
    time, and so is everything after an error. Safe to repeat.

    Raises:
        DomainError: `key_unavailable`, or what `is_needed` raises.
    """
    destroyed = []
    for key_id in await keys.key_ids(in_flight(cell)):
        if parse_key_id(key_id)[1] > today - KEPT:
            continue
        if await is_needed(key_id):
            _log.info("in_flight_key_kept", key_id=key_id)
            continue
        await keys.destroy(key_id)
        _log.info("in_flight_key_destroyed", key_id=key_id)
        destroyed.append(key_id)
    return tuple(destroyed)
