"""Rebuilds a survey's totals from the ledger, so that they go on from Kafka without a gap and without a repeat."""

import time
from collections.abc import Mapping

import structlog

from integrations.kafka.consumer import SummaryConsumer
from integrations.postgres.tally import LedgerSnapshots, TallyEpochs
from integrations.redis.tally import Rebuild, TallyStore
from integrations.redis.tally_keys import CHUNK
from integrations.telemetry.metrics import TallyMetrics

log = structlog.get_logger(__name__)


class Rebuilder:
    """One cell's rebuilds. Any number may run at once, anywhere: the one with the highest epoch stays."""

    def __init__(
        self,
        store: TallyStore,
        epochs: TallyEpochs,
        ledger: LedgerSnapshots,
        consumer: SummaryConsumer,
        metrics: TallyMetrics,
    ) -> None:
        self._store = store
        self._epochs = epochs
        self._ledger = ledger
        self._consumer = consumer
        self._metrics = metrics

    async def rebuild(self, survey_id: str, reason: str) -> int | None:
        """Put the ledger's totals in place; return their epoch, or None where a later rebuild was there first.

        The order is what makes it exact: the ends of the topic first, then one snapshot of the ledger. A summary
        before those ends was announced after its commit, so it is in the snapshot; one behind them is read again,
        and counted only where the snapshot had not got it.

        Raises:
            DomainError: `ledger_unavailable`, `broker_unavailable` or `tally_unavailable`; nothing has changed.
        """
        started = time.monotonic()
        epoch = await self._epochs.allocate(survey_id)
        ends: Mapping[int, int] = await self._consumer.ends()
        async with self._ledger.open() as snapshot:
            counts = await snapshot.counts(survey_id)
            bitmaps = await self._store.prepare(survey_id, epoch, snapshot.bitmaps(survey_id, CHUNK))
        minimum_step = await self._epochs.minimum_step(survey_id)
        installed = await self._store.install(Rebuild(survey_id, epoch, counts, bitmaps, ends, minimum_step))
        if not installed:
            return None
        await self._epochs.mark_installed(survey_id, epoch)
        seconds = time.monotonic() - started
        self._metrics.rebuilt(self._store.cell, reason, seconds)
        log.info(
            "tally_rebuilt",
            cell=self._store.cell,
            election_id=survey_id,
            epoch=epoch,
            reason=reason,
            duration_ms=round(seconds * 1000),
        )
        return epoch
