"""Opens every cell for reading results."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from domain.errors import DomainError
from integrations.platform import cell_pools
from integrations.postgres.replicas import Reads, open_reader
from integrations.postgres.survey_copies import SurveyCopies
from integrations.redis.connection import open_redis, redis_failures
from integrations.redis.tally_reader import TallyReader
from integrations.results.published import PublishedSurveys
from integrations.results.totals import SurveyResults
from integrations.settings import Settings
from integrations.telemetry.waiting_metrics import WaitingMetrics

_STATEMENT_TIMEOUT_S = 2.0
_ANSWER_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class OpenResults:
    """The reader, and the cells that it reads."""

    results: SurveyResults
    pools: dict[str, asyncpg.Pool]
    redis: dict[str, Redis]

    async def any_cell_answers(self) -> bool:
        """Tell whether results of any cell can be read, for readiness."""
        return any(await asyncio.gather(*(_answers(redis) for redis in self.redis.values())))


async def open_results(
    settings: Settings,
    lifetime: AsyncExitStack,
    role: str,
    waiting: WaitingMetrics | None = None,
    *,
    from_standby: bool = False,
) -> OpenResults:
    """Open every cell of the settings for reading results as `role`; none of them has to be there.

    `from_standby` spares the primaries: a standby is read where it is as fresh as its primary.
    """
    pools = await cell_pools(settings, lifetime, role, waiting=waiting, statement_timeout_s=_STATEMENT_TIMEOUT_S)
    copies: dict[str, SurveyCopies] = {}
    clients: dict[str, Redis] = {}
    for cell, addresses in settings.cells.items():
        reads: Reads = pools[cell]
        if from_standby:
            reads = await open_reader(
                addresses.database,
                settings,
                role,
                lifetime,
                max_lag_s=0,
                primary=pools[cell],
                watch=None if waiting is None else waiting.watch_pool(cell, f"{role}/standby"),
                command_timeout=_STATEMENT_TIMEOUT_S,
            )
        copies[cell] = SurveyCopies(reads)
        watch = None if waiting is None else waiting.watch_redis(f"results-{cell}")
        clients[cell] = open_redis(addresses.redis, answer_timeout_s=_ANSWER_TIMEOUT_S, watch=watch)
        lifetime.push_async_callback(clients[cell].aclose)
    tallies = {cell: TallyReader(redis, cell) for cell, redis in clients.items()}
    return OpenResults(SurveyResults(PublishedSurveys(copies), copies, tallies), pools, clients)


async def _answers(redis: Redis) -> bool:
    try:
        with redis_failures():
            await redis.ping()
    except DomainError:
        return False
    return True
