"""Folds a cell's batch summaries into its tally, each once, and repairs the tally from the ledger where it is lost.

Any number of these may run for one cell at once: every one reads everything, and the tally counts each batch once.
One more is a hot standby, not more throughput.

How far: `offsets` in Redis say up to where everything is folded for every survey. They are noted only while no
rebuild was installed that this process does not know of, and none is waiting here. After a rebuild its survey's
totals name the offsets to read on from (`replay`), until somebody has folded from there to where the noted ones are.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import structlog
from opentelemetry.trace import Tracer

from domain.errors import DomainError
from domain.tally import Addition
from integrations.kafka.consumer import Delivery, OffsetsLostError, SummaryConsumer
from integrations.postgres.tally import TalliedSurvey, TallyEpochs
from integrations.redis.tally import Fold, TallyStore
from integrations.telemetry.metrics import TallyMetrics
from integrations.telemetry.span_names import SpanName
from integrations.telemetry.tracing import follow
from workers.rebuilding import Rebuilder

_POLL_S = 0.2
_POLL_MESSAGES = 4000
_CALL_BATCHES = 1000  # one script call; keeps Redis free for others
_TICK_S = 1.0
_RETRY_S = 1.0
_REBUILDS_AT_ONCE = 2
_UNNOTICED_S = 300.0  # of a broker's absence at most: before it is missed, and before this process began

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Partition:
    """`position`: next to fold. Below `caught_up_at` it reads again what had been read before."""

    position: int
    caught_up_at: int = 0
    appended_ms: int = 0

    @property
    def behind(self) -> bool:
        return self.position < self.caught_up_at


@dataclass(slots=True)
class _Known:
    """What this process holds true of the totals in Redis, as of the token `installs`."""

    installs: str = ""
    epochs: dict[str, int] = field(default_factory=dict)
    surveys: dict[str, TalliedSurvey] = field(default_factory=dict)
    catching_up: set[str] = field(default_factory=set)


class Folding:
    """One session: from connecting to the first failure of a server that it needs."""

    def __init__(
        self,
        store: TallyStore,
        epochs: TallyEpochs,
        consumer: SummaryConsumer,
        rebuilder: Rebuilder,
        *,
        metrics: TallyMetrics,
        tracer: Tracer,
        broker_away_s: float = 0.0,
    ) -> None:
        """`broker_away_s` is how long the broker was away before this session: what was recorded is to be announced.

        Retries announce it one after the other, which takes the longer the longer it was away; the ledger says it now.
        """
        self._broker_away_s = broker_away_s
        self._store = store
        self._epochs = epochs
        self._consumer = consumer
        self._rebuilder = rebuilder
        self._metrics = metrics
        self._tracer = tracer
        self._cell = store.cell
        self._parts: dict[int, _Partition] = {}
        self._known = _Known()
        self._rebuilds: dict[str, asyncio.Task[None]] = {}
        self._rebuild_gate = asyncio.Semaphore(_REBUILDS_AT_ONCE)
        self._went_back = False
        self.watermark_ms = 0  # by the clock of Redis, which everybody who folds for this cell shares
        self.clock_ahead_s = 0.0  # how far ours is from it

    async def run(self, stop: asyncio.Event, on_begun: Callable[[], None]) -> None:
        """Fold until `stop` is set; `on_begun` is called once every server has answered.

        Raises:
            DomainError: a server cannot be reached; nothing is lost, and a new session goes on where this one was.
        """
        try:
            await self._begin()
            on_begun()
            next_tick = 0.0
            while not stop.is_set():
                if await self._adopt_rebuilt() or time.monotonic() >= next_tick:
                    await self._tick()
                    next_tick = time.monotonic() + _TICK_S
                await self._step()
                await self._settle()
            await self._note_progress()
        finally:
            for task in self._rebuilds.values():
                task.cancel()
            await asyncio.gather(*self._rebuilds.values(), return_exceptions=True)

    async def _begin(self) -> None:
        await self._store.load_scripts()
        ends = await self._consumer.ends()
        self._known.surveys = await self._epochs.surveys()
        if strange := await self._store.clear_strange(list(self._known.surveys)):
            log.error("tally_keys_strange", cell=self._cell, keys=len(strange), first=strange[0])
        self._known.installs = await self._store.installs()
        marks = await self._store.marks(list(self._known.surveys), self._consumer.partitions)
        noted = await self._store.offsets()
        start = {partition: noted.get(partition, end) for partition, end in ends.items()}
        for survey_id, found in marks.items():
            if found.epoch < self._known.surveys[survey_id].installed_epoch:
                continue
            self._known.epochs[survey_id] = found.epoch
            for partition, offset in found.replays.items():
                self._known.catching_up.add(survey_id)
                start[partition] = min(start[partition], offset)
        self._parts = {partition: _Partition(offset, noted.get(partition, 0)) for partition, offset in start.items()}
        self._consumer.start_at(start)
        if not ends.keys() <= noted.keys():
            self._distrust("offsets_missing", {*self._known.surveys, *self._known.epochs})
        elif self._broker_away_s:
            self._distrust("broker_was_away", self._voted_in_within(self._broker_away_s + _UNNOTICED_S))
        self._rebuild_unknown()

    # Folding

    async def _step(self) -> None:
        try:
            deliveries = await self._consumer.poll(timeout_s=_POLL_S, limit=_POLL_MESSAGES)
        except OffsetsLostError as error:
            log.warning("tally_offsets_lost", cell=self._cell, error=str(error))
            await self._skip_to_the_end()
            return
        if not deliveries:
            return
        began_ns = time.time_ns()
        if await self._fold(list(self._folds(deliveries))):
            kept = {delivery.trace for found in deliveries.values() for delivery in found if delivery.trace}
            follow(self._tracer, SpanName.FOLD_TALLY, kept, began_ns)
            for partition, found in deliveries.items():
                self._parts[partition].position = found[-1].offset + 1
                self._parts[partition].appended_ms = found[-1].appended_ms
        else:
            self._consumer.seek({partition: part.position for partition, part in self._parts.items()})

    async def _skip_to_the_end(self) -> None:
        ends = await self._consumer.ends()
        self._parts = {partition: _Partition(end) for partition, end in ends.items()}
        self._consumer.seek(ends)
        self._distrust("offsets_out_of_range", {*self._known.surveys, *self._known.epochs})

    def _folds(self, deliveries: dict[int, list[Delivery]]) -> Iterator[Fold]:
        for partition, found in deliveries.items():
            by_survey: dict[str, dict[tuple[str, int], tuple[int, Addition]]] = {}
            for delivery in found:
                addition = delivery.addition
                if addition is None:
                    log.error("summary_unreadable", cell=self._cell, partition=partition, offset=delivery.offset)
                    continue
                batches = by_survey.setdefault(addition.survey_id, {})
                batches.setdefault((addition.gateway, addition.number), (delivery.offset, addition))
            for survey_id, batches in by_survey.items():
                survey = self._known.surveys.get(survey_id)
                step = survey.minimum_step if survey else 1
                ordered = list(batches.values())
                for start in range(0, len(ordered), _CALL_BATCHES):
                    piece = ordered[start : start + _CALL_BATCHES]
                    additions = tuple(addition for _, addition in piece)
                    yield Fold(survey_id, 0, partition, piece[-1][0] + 1, step, additions)

    async def _fold(self, folds: list[Fold]) -> bool:
        """Fold what can be folded; False where these messages are to be read again.

        What belongs to a survey that is being rebuilt is passed over: the rebuild names the offsets to read on from.
        """
        self._went_back = False
        await self._adopt({fold.survey_id for fold in folds} - self._known.epochs.keys() - self._rebuilds.keys())
        ready = [
            replace(fold, epoch=self._known.epochs[fold.survey_id])
            for fold in folds
            if fold.survey_id in self._known.epochs
        ]
        results = await self._store.fold(ready)
        for result in results:
            self._metrics.folded(self._cell, result.batches, result.ballots, result.repeats)
        lost = {fold.survey_id for fold, result in zip(ready, results, strict=True) if result.lost}
        if not lost:
            return not self._went_back
        for survey_id in lost:
            self._known.epochs.pop(survey_id, None)
        await self._adopt(lost)
        return False

    # Agreeing with Redis and the ledger

    async def _adopt(self, survey_ids: Iterable[str]) -> None:
        """Take over what Redis has of these surveys where the ledger calls it valid, else rebuild it."""
        wanted = list(survey_ids)
        if not wanted:
            return
        marks = await self._store.marks(wanted, self._consumer.partitions)
        for survey_id in wanted:
            found = marks.get(survey_id)
            try:
                valid = found is not None and found.epoch >= await self._epochs.installed(survey_id)
            except DomainError:
                valid = False  # the rebuild waits until the ledger answers
            if found is None or not valid:
                self._rebuild_later(survey_id, "state_missing" if found is None else "epoch_old")
                continue
            self._known.epochs[survey_id] = found.epoch
            if found.replays:
                self._known.catching_up.add(survey_id)
            self._go_back(found.offsets)

    def _go_back(self, offsets: Mapping[int, int]) -> None:
        """Read on from these offsets where they are behind us: up to there everything is in a rebuild."""
        for partition, offset in offsets.items():
            part = self._parts.get(partition)
            if part is not None and offset < part.position:
                part.caught_up_at = max(part.caught_up_at, part.position)
                part.position = offset
                self._went_back = True
                self._consumer.seek({partition: offset})

    def _distrust(self, reason: str, survey_ids: Iterable[str]) -> None:
        """Rebuild surveys: the ledger has summaries that nobody folded."""
        for survey_id in survey_ids:
            self._known.epochs.pop(survey_id, None)
            self._rebuild_later(survey_id, reason)

    def _voted_in_within(self, seconds: float) -> list[str]:
        """Return the surveys that took votes so long ago or later, those first that take votes now."""
        ended = {survey.survey_id: survey.ended_s for survey in self._known.surveys.values()}
        lately = ((ago, survey_id) for survey_id, ago in ended.items() if ago is not None and ago < seconds)
        return [survey_id for _, survey_id in sorted(lately)]

    def _rebuild_unknown(self) -> None:
        for survey_id in self._known.surveys.keys() - self._known.epochs.keys():
            self._rebuild_later(survey_id, "state_missing")

    def _rebuild_later(self, survey_id: str, reason: str) -> None:
        self._known.catching_up.discard(survey_id)
        if survey_id not in self._rebuilds:
            self._rebuilds[survey_id] = asyncio.create_task(self._rebuild(survey_id, reason))

    async def _rebuild(self, survey_id: str, reason: str) -> None:
        failing = False
        while True:
            try:
                async with self._rebuild_gate:
                    await self._rebuilder.rebuild(survey_id, reason)
            except DomainError as error:
                if not failing:
                    log.warning("tally_rebuild_failing", cell=self._cell, election_id=survey_id, code=error.code)
                failing = True
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _adopt_rebuilt(self) -> bool:
        """Take over finished rebuilds; True where that was what the watermark waited for."""
        done = [survey_id for survey_id, task in self._rebuilds.items() if task.done()]
        for survey_id in done:
            self._rebuilds.pop(survey_id).result()
        await self._adopt(done)
        return bool(done) and not self._rebuilds

    async def _settle(self) -> None:
        """Tell that rebuilds have caught up, once everything that anybody had read before is read again."""
        if not self._known.catching_up or any(part.behind for part in self._parts.values()):
            return
        positions = {partition: part.position for partition, part in self._parts.items()}
        for survey_id in tuple(self._known.catching_up):
            epoch = self._known.epochs.get(survey_id)
            if epoch is None or await self._store.settle(survey_id, epoch, positions):
                self._known.catching_up.discard(survey_id)

    # Once a second

    async def _tick(self) -> None:
        await self._note_progress()
        try:
            self._known.surveys = await self._epochs.surveys()
        except DomainError:
            return  # what is known goes on; the ledger's own readiness tells of it
        self._rebuild_unknown()

    async def _note_progress(self) -> None:
        now_ms = await self._store.now_ms()  # before the ends: what is announced later is not claimed
        self.clock_ahead_s = time.time() - now_ms / 1000
        ends = await self._consumer.ends()
        self._metrics.lagging(self._cell, sum(max(0, ends[p] - part.position) for p, part in self._parts.items()))
        await self._notice_installs()
        if self._rebuilds:
            return
        progress = {
            partition: (part.position, self._watermark(part, ends[partition], now_ms))
            for partition, part in self._parts.items()
        }
        watermark = await self._store.advance(self._known.installs, self._consumer.partitions, progress)
        if watermark is not None:
            self.watermark_ms = watermark

    def _watermark(self, part: _Partition, end: int, now_ms: int) -> int:
        if part.behind:
            return 0
        return now_ms if part.position >= end else part.appended_ms

    async def _notice_installs(self) -> None:
        """Learn of rebuilds by others, by hand, and of a Redis that lost everything."""
        token = await self._store.installs()
        if token == self._known.installs:
            return
        marks = await self._store.marks(list(self._known.epochs), self._consumer.partitions)
        changed = [
            survey_id
            for survey_id, epoch in self._known.epochs.items()
            if survey_id not in marks or marks[survey_id].epoch != epoch
        ]
        for survey_id in changed:
            del self._known.epochs[survey_id]
        await self._adopt(changed)
        self._known.installs = token
