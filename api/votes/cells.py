"""Opens the cells of the votes service: a gateway and an eager worker for each."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from temporalio.worker import Worker

from activities.voting import RecordListener, VotingActivities
from api.background import run_beside
from api.http.limits import Limits
from api.votes.attempts import Attempts
from api.votes.gate import VoteGate
from api.votes.gateway import Gateway, GatewayLimits
from api.votes.limits import VotingLimits, voting_limits
from api.votes.telemetry import GatewayTelemetry
from domain.contracts.voting import Outcome, RecordedVotes, SubmitVotesInput
from domain.ports import KeyManagement
from domain.submissions import SubmissionIds
from integrations.kafka.attempts import AttemptProducer
from integrations.postgres.answer_sessions import AnswerSessions
from integrations.postgres.ledger import PostgresLedger
from integrations.postgres.participations import PostgresParticipations
from integrations.postgres.pool import NotDurableError, pool_on_demand
from integrations.postgres.roles import VOTING
from integrations.postgres.voting_surveys import VotingSurveys
from integrations.reaching import any_answers, reach_cells, reached
from integrations.settings import Settings
from integrations.telemetry.metrics import VoteMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.batches import VOTES_QUEUE, TemporalBatches
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.worker import Release, build_worker
from integrations.voting_cell import DEPLOYMENT, VotingCellClients, open_voting_cell
from workflows.submit_votes import SubmitVotesWorkflow

_ANSWERS_WITHIN = timedelta(seconds=1)
_ASIDE = 4  # connections for answer sessions and reads, so that they never take one that votes are recorded with
_LOCK_TIMEOUT = "2s"
_STATEMENT_TIMEOUT_S = 4.0


@dataclass(frozen=True, slots=True)
class VotingCell:
    """What the votes service needs of one cell."""

    surveys: VotingSurveys
    ledger: PostgresLedger  # for reads, beside the one that records
    participations: PostgresParticipations
    batches: TemporalBatches
    gateway: Gateway
    sessions: AnswerSessions
    submission_ids: SubmissionIds
    attempts: Attempts


@dataclass(frozen=True, slots=True)
class VotingSecrets:
    """Keys that every cell of the service shares."""

    submission: bytes
    pseudonym: bytes


class VotingCells:
    """The cells of this process that have been reached, and the limits of all."""

    limits: Mapping[str, VotingLimits]

    def __init__(
        self, settings: Settings, keys: KeyManagement, secrets: VotingSecrets, telemetry: Telemetry, limits: Limits
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._secrets = secrets
        self._telemetry = telemetry
        self.limits = {cell: voting_limits(limits, cell) for cell in settings.cells}  # also of those that are away
        self._metrics = VoteMetrics(telemetry.registry)
        self.gate = VoteGate()
        self._open: dict[str, VotingCell] = {}
        self._checks: dict[str, Callable[[], Awaitable[bool]]] = {}

    @property
    def metrics(self) -> VoteMetrics:
        """What votes are counted by."""
        return self._metrics

    def of(self, cell: str) -> VotingCell:
        """Return an open cell.

        Raises:
            DomainError: `wrong_cell` where this process does not serve it, `cell_unavailable` where it is down.
        """
        return reached(self._open, self._settings.cells, cell)

    async def open(self, lifetime: AsyncExitStack) -> None:
        """Open every cell that can be reached; the others follow when they can.

        Raises:
            NotDurableError: a database would acknowledge what a crash can undo.
        """
        await reach_cells(self._settings.cells, self._open_cell, lifetime, final=(NotDurableError,))

    async def ready(self) -> bool:
        """Tell whether votes of some cell can be taken now."""
        return await any_answers(self._checks.values())

    async def _open_cell(self, cell: str, stack: AsyncExitStack) -> None:
        settings = self._settings
        clients = await open_voting_cell(cell, settings, self._keys, stack, self._telemetry)
        run_beside(stack, keep_refreshed(clients.codec))
        batches = TemporalBatches(clients.temporal, cell)
        gateway = Gateway(cell, batches, clients.ledger, _limits(settings), GatewayTelemetry(self._metrics, cell))
        await clients.ledger.register_gateway(gateway.gateway_id, settings.build, settings.vote_batches_in_flight)
        attempt_producer = AttemptProducer(settings.cells[cell].kafka, cell, metrics=self._telemetry.waiting)
        stack.push_async_callback(attempt_producer.close)
        attempts = Attempts(attempt_producer, self._secrets.pseudonym, gateway.gateway_id.hex())
        run_beside(stack, attempts.run())
        listener = _record_listener(gateway, self._metrics)
        worker = await stack.enter_async_context(_eager_worker(clients, listener, Release(DEPLOYMENT, settings.build)))
        stack.push_async_callback(gateway.stop)  # before the worker that records what it still has
        aside = await pool_on_demand(
            settings.cells[cell].database,
            settings,
            VOTING,
            size=_ASIDE,
            watch=self._telemetry.waiting.watch_pool(cell, "aside"),
            lock_timeout=_LOCK_TIMEOUT,
            command_timeout=_STATEMENT_TIMEOUT_S,
        )
        stack.push_async_callback(aside.close)
        self._metrics.watch_queue(cell, gateway.queued_votes, gateway.queued_bytes, gateway.oldest_waits_s)
        self._metrics.watch_intake(cell, lambda: gateway.intake.votes, lambda: gateway.intake.limit)
        self.gate.add(cell, gateway.intake, clients.surveys.knows)
        self._checks[cell] = partial(_answers, clients, worker)
        self._open[cell] = VotingCell(
            surveys=clients.surveys,
            ledger=PostgresLedger(aside, clients.surveys, self._telemetry.tracing.tracer),
            participations=PostgresParticipations(aside),
            batches=batches,
            gateway=gateway,
            sessions=AnswerSessions(aside),
            submission_ids=SubmissionIds(self._secrets.submission),
            attempts=attempts,
        )


async def _answers(clients: VotingCellClients, worker: Worker) -> bool:
    if not worker.is_running:
        return False
    await clients.temporal.service_client.check_health(timeout=_ANSWERS_WITHIN)
    return await clients.pool.fetchval("SELECT true", timeout=_ANSWERS_WITHIN.total_seconds()) is True


def _limits(settings: Settings) -> GatewayLimits:
    return GatewayLimits(
        batch_max=settings.vote_batch_max,
        in_flight=settings.vote_batches_in_flight,
        queue_max=settings.vote_queue_max,
        confirm_timeout_s=settings.vote_confirm_timeout_s,
        start_timeout_s=settings.vote_start_timeout_s,
        intake_min=min(settings.vote_intake_min, settings.vote_queue_max),
        intake_wait_s=settings.vote_intake_wait_s,
    )


def _record_listener(gateway: Gateway, metrics: VoteMetrics) -> RecordListener:
    def recorded(batch: SubmitVotesInput, record: RecordedVotes) -> None:
        gateway.recorded(batch, record)
        for outcome in Outcome:
            metrics.recorded(batch.cell, outcome.name.lower(), record.outcomes.count(outcome))

    return recorded


@asynccontextmanager
async def _eager_worker(
    clients: VotingCellClients, listener: RecordListener, release: Release
) -> AsyncIterator[Worker]:
    """Serve the votes queue in this process, so that a start comes back with its first task."""
    activities = VotingActivities(clients.ledger, clients.summaries, listener)
    worker = build_worker(
        clients.temporal,
        VOTES_QUEUE,
        release,
        workflows=[SubmitVotesWorkflow],
        activities=[activities.record_votes, activities.announce_votes],
        in_loop=True,
    )
    async with worker:
        yield worker
