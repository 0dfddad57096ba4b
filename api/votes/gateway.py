"""The gateway commits in groups: votes that wait become one batch, one execution, one transaction."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from api.votes.intake import IntakeLimits, VoteIntake
from api.votes.queue import Accepted, Caller, Confirmed, NotTaken, Verdict, VoteQueue, WaitingVote
from api.votes.running import RunningBatch
from domain.contracts.voting import Outcome, RecordedVotes, SealedVote, SubmitVotesInput
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId
from domain.submissions import Submission

BATCH_BYTES_MAX = 1024 * 1024
_LOOK_UP_AFTER_S = 0.1
_LOOK_UP_EVERY_MAX_S = 2.0
_START_RETRY_S = 0.1
_START_RETRY_MAX_S = 2.0
_SWEEP_S = 0.1
_ANSWER_BEFORE_S = 0.02  # so long before a caller's deadline it is told what is known

log = structlog.get_logger()


class Batches(Protocol):
    """Durable executions of one cell's batches."""

    async def start(self, batch: SubmitVotesInput) -> None:
        """Return once the batch is durable; raise DomainError where that is not known. Safe to repeat."""
        ...

    async def result(self, batch_id: BatchId) -> bytes:
        """Wait for the outcomes that the execution returns."""
        ...


class BatchRows(Protocol):
    """The ledger's rows of batches."""

    async def find(self, cell: str, batch_id: BatchId) -> RecordedVotes | None:
        """Return a recorded batch, or None."""
        ...


class GatewayMeter(Protocol):
    """What a gateway counts."""

    def in_flight(self, batches: int) -> None:
        """Batches that run now."""
        ...

    def started(self, votes: int) -> None:
        """A batch of so many votes goes out."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """`VOTE_*` settings: votes per batch, batches at once, votes waiting, seconds of patience, and `IntakeLimits`."""

    batch_max: int
    in_flight: int
    queue_max: int
    confirm_timeout_s: float
    start_timeout_s: float
    intake_min: int
    intake_wait_s: float


class Gateway:
    """Takes the votes of one cell in one process.

    Whenever fewer than `in_flight` batches are running it takes what waits, so a lone vote goes out alone at once and
    a busy system sends hundreds together, with no timer to tune. Nothing is dropped after it is durable; before that,
    a full queue or a long wait is answered `overloaded`.
    """

    def __init__(
        self, cell: str, batches: Batches, rows: BatchRows, limits: GatewayLimits, meter: GatewayMeter
    ) -> None:
        self.cell = cell
        self.gateway_id = secrets.token_bytes(16)
        self._batches = batches
        self._rows = rows
        self._limits = limits
        self._meter = meter
        self._queue = VoteQueue(limits.queue_max)
        self.intake = VoteIntake(IntakeLimits(limits.intake_min, limits.queue_max, limits.intake_wait_s))
        self._running: dict[int, RunningBatch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self._pump_planned = False
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._sweeper = self._loop.create_task(self._sweep())

    def submit(
        self,
        vote: SealedVote,
        answer: Callable[[Verdict], None],
        trace: Context | None = None,
        *,
        caller: Caller | None = None,
        wait_s: float = float("inf"),
    ) -> None:
        """Queue a vote; `answer` hears what becomes of it, exactly once.

        A batch belongs to the trace of its first vote, where that has one. A vote that waits for its batch longer than
        `wait_s`, or whose caller has gone, is left out of it. Nothing that is in a batch is ever left out.
        """
        now = self._loop.time()
        waiting = WaitingVote(
            vote, answer, now, trace=trace, left=self.intake.leave, caller=caller, deadline=now + wait_s
        )
        if self._stopping or not self.intake.takes(vote.survey_id) or not self._queue.put(waiting):
            answer(NotTaken(self._refusal()))
            return
        self.intake.enter(vote.survey_id)
        self._plan_pump()

    def recorded(self, batch: SubmitVotesInput, recorded: RecordedVotes) -> None:
        """Hear of a batch that this process recorded; others' batches are not ours to answer."""
        if batch.gateway_id == self.gateway_id:
            self._settle(batch.number, recorded.outcomes)

    def queued_votes(self) -> int:
        """Votes that wait for a batch."""
        return len(self._queue)

    def queued_bytes(self) -> int:
        """Encoded bytes that wait for a batch."""
        return self._queue.bytes

    def oldest_waits_s(self) -> float:
        """How long the oldest vote has waited for a batch; 0 where none waits."""
        since = self._queue.oldest_since()
        return 0.0 if since is None else max(0.0, self._loop.time() - since)

    async def stop(self) -> None:
        """Take no more votes; return when every vote taken has its answer and every batch is durable.

        What a ledger that is away keeps from being recorded is left to other workers of this build.
        """
        self._stopping = True
        while self._queue or not all(batch.durable and batch.answered for batch in self._running.values()):
            waiting = self._tasks or {self._loop.create_task(asyncio.sleep(0))}  # a planned pump goes first
            await asyncio.wait(waiting, timeout=_SWEEP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeper

    def _plan_pump(self) -> None:
        """Start what can be started after this round of the loop.

        Requests that have arrived meanwhile are read first and go together: a quarter more votes per second under
        load, and no timer.
        """
        if not self._pump_planned and len(self._running) < self._limits.in_flight:
            self._pump_planned = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_planned = False
        while len(self._running) < self._limits.in_flight:
            waiting, given_up = self._queue.take(self._limits.batch_max, BATCH_BYTES_MAX, self._loop.time())
            for vote in given_up:
                vote.answer(NotTaken(ErrorCode.DEADLINE_EXCEEDED))
            if not waiting:
                break
            self._number += 1
            batch = SubmitVotesInput.model_construct(
                cell=self.cell,
                gateway_id=self.gateway_id,
                number=self._number,
                votes=tuple(vote.vote for vote in waiting),
            )
            running = self._running[self._number] = RunningBatch(batch, waiting, self._loop.create_future(), self._free)
            task = self._loop.create_task(self._run(running))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
            self._meter.started(len(waiting))
        self._meter.in_flight(len(self._running))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("batch_lost_from_sight", exc_info=error)

    async def _run(self, batch: RunningBatch) -> None:
        number = batch.input.number
        otel_context.attach(batch.trace)  # not the context of whoever's request happened to start this task
        try:
            batch.durable = await self._start(batch)
            if not batch.durable:
                self._start_no_other()
                return
            batch.durable_since = self._loop.time()
            telling = self._loop.create_task(self._tell_accepted(batch))
            try:
                outcomes = await self._outcomes(batch)
            finally:
                telling.cancel()
            self._settle(number, outcomes)
        except DomainError as error:
            log.error("batch_failed", batch_id=str(BatchId(self.gateway_id, number)), code=error.code)  # noqa: TRY400
            batch.answer(lambda _: NotTaken(ErrorCode.OUTCOME_UNKNOWN))
        except BaseException:
            batch.answer(lambda _: NotTaken(ErrorCode.OUTCOME_UNKNOWN))  # whatever it was, nobody is left waiting
            raise
        finally:
            batch.ended = True
            self._free(batch)

    async def _tell_accepted(self, batch: RunningBatch) -> None:
        """Answer `accepted` while it is not recorded: each caller before its own deadline, all before ours."""

        def accepted(index: int) -> Accepted:
            return Accepted(self._place(batch.input.number, index))

        oldest = min((vote.since for vote in batch.waiting if vote is not None), default=self._loop.time())
        ours = oldest + self._limits.confirm_timeout_s
        while (theirs := batch.next_deadline - _ANSWER_BEFORE_S) < ours:
            await asyncio.sleep(theirs - self._loop.time())
            batch.answer_those(self._loop.time() + _ANSWER_BEFORE_S, accepted)
        await asyncio.sleep(ours - self._loop.time())
        batch.answer(accepted)

    async def _start(self, batch: RunningBatch) -> bool:
        """Start until Temporal says that it has the batch, or the record shows it; always under the same number.

        At the deadline the callers hear `outcome_unknown`, and the number is still settled: a gap would let a drain
        believe that nothing came after it.
        """
        give_up_at = self._loop.time() + self._limits.start_timeout_s
        wait_s = _START_RETRY_S
        while not batch.recorded.done():
            try:
                await self._batches.start(batch.input)
            except DomainError as error:
                log.warning("batch_start_failed", batch=batch.input.number, error=str(error))
            else:
                return True
            if self._loop.time() >= give_up_at:
                batch.answer(lambda _: NotTaken(ErrorCode.OUTCOME_UNKNOWN))
                if self._stopping:
                    return False
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _START_RETRY_MAX_S)
        return True

    def _start_no_other(self) -> None:
        """Refuse what still waits: behind a number that was never settled, a drain would look in vain for others."""
        for waiting in self._queue.expire(math.inf):
            waiting.answer(NotTaken(ErrorCode.OVERLOADED))

    async def _outcomes(self, batch: RunningBatch) -> bytes:
        """Return outcomes from the first that has them: this process, the batch's row, the execution's result."""
        done, _ = await asyncio.wait({batch.recorded}, timeout=_LOOK_UP_AFTER_S)
        if done:
            return batch.recorded.result()
        batch_id = BatchId(self.gateway_id, batch.input.number)
        others = {
            self._loop.create_task(self._row(batch_id)),
            self._loop.create_task(self._batches.result(batch_id)),
        }
        waiting: set[asyncio.Future[bytes]] = {batch.recorded, *others}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for found in done:
                    error = found.exception()
                    if error is None:
                        return found.result()
                    if not isinstance(error, DomainError) or not error.spec.retryable:
                        raise error  # the execution failed: a fault, and no row will come
            raise DomainError(ErrorCode.OUTCOME_UNKNOWN, str(batch_id))
        finally:
            for task in others:
                task.cancel()

    async def _row(self, batch_id: BatchId) -> bytes:
        wait_s = _LOOK_UP_AFTER_S
        while True:
            with contextlib.suppress(DomainError):
                recorded = await self._rows.find(self.cell, batch_id)
                if recorded is not None:
                    return recorded.outcomes
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LOOK_UP_EVERY_MAX_S)

    def _settle(self, number: int, outcomes: bytes) -> None:
        batch = self._running.get(number)
        if batch is None:
            return
        if not batch.recorded.done():
            batch.recorded.set_result(outcomes)
        batch.ended = True  # not only when it is announced: the next batch need not wait for that
        batch.answer(lambda index: Confirmed(self._place(number, index), Outcome(outcomes[index])))
        self._free(batch)

    def _free(self, batch: RunningBatch) -> None:
        """Give the place of a batch to the next one, if it has ended and everybody has an answer.

        Who has just heard votes again, or another does: the next batch is larger for having waited for all answers.
        """
        if batch.ended and batch.answered and self._running.pop(batch.input.number, None) is not None:
            self._plan_pump()

    def _place(self, number: int, index: int) -> Submission:
        return Submission(BatchId(self.gateway_id, number), index)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.intake.adapt(_SWEEP_S)
            for waiting in self._queue.expire(self._loop.time() - self._limits.start_timeout_s):
                waiting.answer(NotTaken(self._refusal()))

    def _refusal(self) -> ErrorCode:
        """Tell a cell that records nothing from one that is busy: the first says nothing about the others."""
        now, patience_s = self._loop.time(), self._limits.start_timeout_s
        away = any(batch.durable_since + patience_s < now for batch in self._running.values())
        return ErrorCode.CELL_UNAVAILABLE if away else ErrorCode.OVERLOADED
