"""The tally's process: one folding per cell, each going on by itself when a server comes back."""

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack

import structlog
from opentelemetry.trace import Tracer

from domain.errors import DomainError, ErrorCode
from integrations.kafka.consumer import SummaryConsumer
from integrations.postgres.failures import ledger_failures
from integrations.postgres.pool import Pool, PoolWatch, open_pool
from integrations.postgres.roles import TALLY
from integrations.postgres.tally import LedgerSnapshots, TallyEpochs
from integrations.reaching import any_answers
from integrations.redis.connection import durability, open_redis
from integrations.redis.tally import TallyStore
from integrations.settings import CellSettings, Settings
from integrations.telemetry.metrics import TallyMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.waiting_metrics import WaitingMetrics
from workers.folding import Folding
from workers.rebuilding import Rebuilder

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0  # of what results stand still for after an outage
_FRESH_S = 10.0  # readiness: a watermark this old means that results stand still
_REBUILD_COMMAND_S = 120.0  # one statement over the whole ledger of a survey

log = structlog.get_logger(__name__)


class CellTally:
    """One cell's tally, for as long as the process lives."""

    def __init__(
        self,
        settings: Settings,
        cell: str,
        metrics: TallyMetrics,
        tracer: Tracer,
        *,
        waiting: WaitingMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._addresses: CellSettings = settings.cells[cell]
        self.cell = cell
        self._metrics = metrics
        self._tracer = tracer
        self._watch = None if waiting is None else waiting.watch_redis(f"tally-{cell}")
        self._watch_pool = None if waiting is None else waiting.watch_pool(cell, TALLY)
        self._folding: Folding | None = None
        self._watermark_ms = 0
        self._clock_ahead_s = 0.0
        self._interrupted = False
        self._broker_missed_at: float | None = None
        metrics.watch_watermark(cell, self.watermark_age_s)

    def watermark_age_s(self) -> float:
        """Return how old the newest watermark is that this process published, in seconds; -1 before the first."""
        if self._folding is not None:
            self._watermark_ms = max(self._watermark_ms, self._folding.watermark_ms)
            self._clock_ahead_s = self._folding.clock_ahead_s
        return time.time() - self._clock_ahead_s - self._watermark_ms / 1000 if self._watermark_ms else -1.0

    async def check(self) -> bool:
        """Tell whether this cell is being folded, for readiness."""
        age_s = self.watermark_age_s()
        return self._folding is not None and self._watermark_ms > 0 and age_s < _FRESH_S

    async def run(self, stop: asyncio.Event) -> None:
        """Fold until `stop` is set, through any outage of any server; log when the state changes."""
        pause = _FIRST_PAUSE_S
        while not stop.is_set():
            started = time.monotonic()
            try:
                await self._session(stop)
            except DomainError as error:
                if not self._interrupted:
                    log.warning("tally_interrupted", cell=self.cell, code=error.code, error=error.detail)
                self._interrupted = True
                if error.code is ErrorCode.BROKER_UNAVAILABLE and self._broker_missed_at is None:
                    self._broker_missed_at = time.monotonic()
                if time.monotonic() - started > _LONGEST_PAUSE_S:
                    pause = _FIRST_PAUSE_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _begun(self) -> None:
        if self._interrupted:
            log.info("tally_resumed", cell=self.cell)
        self._interrupted, self._broker_missed_at = False, None

    async def _session(self, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            redis = open_redis(self._addresses.redis, watch=self._watch)
            stack.push_async_callback(redis.aclose)
            await durability(redis)
            pool = await open_tally_pool(self._settings, self.cell, stack, self._watch_pool)
            consumer = SummaryConsumer(self._addresses.kafka, self.cell)
            stack.push_async_callback(consumer.close)
            await consumer.open()
            store, epochs = TallyStore(redis, self.cell), TallyEpochs(pool)
            rebuilder = Rebuilder(store, epochs, LedgerSnapshots(pool), consumer, self._metrics)
            self._folding = Folding(
                store,
                epochs,
                consumer,
                rebuilder,
                metrics=self._metrics,
                tracer=self._tracer,
                broker_away_s=0.0 if self._broker_missed_at is None else time.monotonic() - self._broker_missed_at,
            )
            try:
                await self._folding.run(stop, self._begun)
            finally:
                self.watermark_age_s()
                self._folding = None


async def open_tally_pool(settings: Settings, cell: str, stack: AsyncExitStack, watch: PoolWatch | None = None) -> Pool:
    """Open a pool on a cell's ledger for reading, closed with `stack`."""
    with ledger_failures():
        pool = await open_pool(
            settings.cells[cell].database,
            settings,
            TALLY,
            size=4,
            watch=watch,
            command_timeout=_REBUILD_COMMAND_S,
            timeout=5,
        )
    stack.push_async_callback(pool.close)
    return pool


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Run the tally of every cell of the settings until `stopping` is set; ready while some cell is folded.

    `lifetime` is not needed: what a session opens, it closes.
    """
    del lifetime
    metrics = TallyMetrics(telemetry.registry)
    tallies = [
        CellTally(settings, cell, metrics, telemetry.tracing.tracer, waiting=telemetry.waiting)
        for cell in settings.cells
    ]
    telemetry.readiness.add("cells", lambda: any_answers(tally.check for tally in tallies))
    telemetry.readiness.start()
    async with asyncio.TaskGroup() as running:
        for tally in tallies:
            running.create_task(tally.run(stopping))
