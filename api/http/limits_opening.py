"""Opens the limits of a process: a client of every cell's Redis, none of which has to be there."""

from contextlib import AsyncExitStack, suppress

from api.background import run_beside
from api.http.limiting import CellLimits
from api.http.limits import Limits
from domain.errors import DomainError
from domain.limits import policies_with
from domain.ports import KeyManagement
from integrations.keys.purposes import LIMITS
from integrations.redis.connection import open_redis
from integrations.redis.limits import RedisBuckets
from integrations.settings import Settings
from integrations.telemetry.metrics import LimitMetrics
from integrations.telemetry.telemetry import Telemetry

_ANSWER_TIMEOUT_S = 0.5  # nobody waits for it; a server that slow had better not be told more


async def open_limits(
    settings: Settings, keys: KeyManagement, lifetime: AsyncExitStack, telemetry: Telemetry
) -> Limits:
    """Return the limits of a process that may use keys of the purpose `limits`, told until `lifetime` ends.

    Raises:
        LookupError: the settings name no cell.
    """
    if not settings.cells:
        raise LookupError("COMITIA_CELLS is not set")
    key = (await keys.current(LIMITS)).secret
    metrics = LimitMetrics(telemetry.registry)
    policies = policies_with(settings.limits)
    cells: dict[str, CellLimits] = {}
    for cell, addresses in settings.cells.items():
        watch = telemetry.waiting.watch_redis(f"limits-{cell}")
        redis = open_redis(addresses.redis, answer_timeout_s=_ANSWER_TIMEOUT_S, connections=1, watch=watch)
        lifetime.push_async_callback(redis.aclose)
        buckets = RedisBuckets(redis, cell, telemetry.service, key)
        lifetime.push_async_callback(_leave, buckets)
        cells[cell] = CellLimits(cell, buckets, policies, metrics)
        run_beside(lifetime, cells[cell].run())
    return Limits(cells)


async def _leave(buckets: RedisBuckets) -> None:
    """Tell the others that this process has stopped; where that cannot be told they see it in a moment."""
    with suppress(DomainError):
        await buckets.leave()
