"""Opens the memory of used proofs: a client of every cell's Redis, none of which has to be there."""

from contextlib import AsyncExitStack

from api.http.used_proofs import CellProofs, UsedProofs
from integrations.keys.dpop import KEPT_S
from integrations.redis.connection import open_redis
from integrations.redis.used_proofs import RedisUsedProofs
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry

_ANSWER_TIMEOUT_S = 0.5  # nobody waits that long: after it the connection is given up
_CONNECTIONS = 8  # one group of requests at a time, two of admissions, and what was given up and has not ended


def open_used_proofs(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> UsedProofs:
    """Return what the processes of each cell of the settings have seen, until `lifetime` ends."""
    cells: dict[str, CellProofs] = {}
    for cell, addresses in settings.cells.items():
        watch = telemetry.waiting.watch_redis(f"proofs-{cell}")
        redis = open_redis(addresses.redis, answer_timeout_s=_ANSWER_TIMEOUT_S, connections=_CONNECTIONS, watch=watch)
        lifetime.push_async_callback(redis.aclose)
        cells[cell] = CellProofs(cell, RedisUsedProofs(redis, cell, kept_s=KEPT_S))
        telemetry.waiting.watch_proofs(cell, cells[cell].waiting)
    return UsedProofs(cells)
