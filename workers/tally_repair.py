"""Repairs a cell's tally by the rebuild that the tally's own worker makes when Redis lost it."""

import asyncpg
from redis.asyncio import Redis

from integrations.addresses import KafkaAddress
from integrations.kafka.consumer import SummaryConsumer
from integrations.postgres.tally import LedgerSnapshots, TallyEpochs
from integrations.redis.tally import TallyStore
from integrations.telemetry.metrics import TallyMetrics
from workers.rebuilding import Rebuilder


class CellRepair:
    """Implements `TallyRepair` for one cell; the broker is asked for while a repair runs, and not otherwise."""

    def __init__(self, cell: str, pool: asyncpg.Pool, redis: Redis, kafka: KafkaAddress, metrics: TallyMetrics) -> None:
        """`pool` is of a role that may number rebuilds."""
        self._cell = cell
        self._pool = pool
        self._redis = redis
        self._kafka = kafka
        self._metrics = metrics

    async def rebuild(self, survey_id: str, reason: str) -> int | None:
        """Put the ledger's totals in place; running consumers go on from there.

        Raises:
            DomainError: `ledger_unavailable`, `broker_unavailable` or `tally_unavailable`; nothing has changed.
        """
        consumer = SummaryConsumer(self._kafka, self._cell)
        try:
            await consumer.open()
            store = TallyStore(self._redis, self._cell)
            epochs, ledger = TallyEpochs(self._pool), LedgerSnapshots(self._pool)
            return await Rebuilder(store, epochs, ledger, consumer, self._metrics).rebuild(survey_id, reason)
        finally:
            await consumer.close()
