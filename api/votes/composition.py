"""Wires the votes service: one gateway and one eager worker per cell."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from activities.voting import RecordListener, VotingActivities
from api.composition import Service
from api.http.application import create_application
from api.votes.answering import Answering
from api.votes.app import add_routes, lean_routes
from api.votes.attempts import Attempts
from api.votes.authority import VotingAuthority
from api.votes.endpoint import CastVotes, VotingCell
from api.votes.gateway import Gateway, GatewayLimits
from api.votes.submissions import Submissions
from api.votes.telemetry import GatewayTelemetry, VoteTelemetry
from domain.contracts.voting import Outcome, RecordedVotes, SubmitVotesInput
from domain.submissions import SubmissionIds
from integrations.kafka.attempts import AttemptProducer
from integrations.keys.dpop import DpopVerifier
from integrations.keys.management import key_management
from integrations.keys.purposes import DAILY, KEK_BALLOT, PSEUDONYM, SUBMISSION, VOTING_TOKEN, public
from integrations.keys.signing import VerificationKeys, keep_fresh
from integrations.keys.tokens import VotingTokenVerifier
from integrations.postgres.answer_sessions import AnswerSessions
from integrations.settings import Settings
from integrations.telemetry.metrics import VoteMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.batches import VOTES_QUEUE, TemporalBatches
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.worker import Release, build_worker
from integrations.voting_cell import DEPLOYMENT, VotingCellClients, open_voting_cell
from workflows.submit_votes import SubmitVotesWorkflow


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Open every cell of the settings and return the service."""
    keys = key_management(settings, public(VOTING_TOKEN), KEK_BALLOT, DAILY, SUBMISSION, PSEUDONYM)
    token_keys = VerificationKeys(keys, VOTING_TOKEN)
    await token_keys.refresh()
    clients = {
        cell: await open_voting_cell(cell, settings, keys, lifetime, telemetry.tracing.temporal_interceptor())
        for cell in settings.cells
    }
    metrics = VoteMetrics(telemetry.registry)
    batches = {cell: TemporalBatches(found.temporal, cell) for cell, found in clients.items()}
    gateways = {
        cell: Gateway(cell, batches[cell], found.ledger, _limits(settings), GatewayTelemetry(metrics, cell))
        for cell, found in clients.items()
    }
    attempts = await _attempts(settings, lifetime, (await keys.current(PSEUDONYM)).secret, gateways)
    submission_ids = SubmissionIds((await keys.current(SUBMISSION)).secret)
    cells = {
        cell: VotingCell(found.surveys, gateways[cell], submission_ids, attempts[cell])
        for cell, found in clients.items()
    }
    for cell, gateway in gateways.items():
        await clients[cell].ledger.register_gateway(gateway.gateway_id, settings.build)
        metrics.watch_queue(cell, gateway.queued_votes, gateway.queued_bytes)

        listener = _record_listener(gateway, metrics)
        await lifetime.enter_async_context(_eager_worker(clients[cell], listener, Release(DEPLOYMENT, settings.build)))
        lifetime.push_async_callback(gateway.stop)
    await lifetime.enter_async_context(
        _background(
            *(found.run() for found in attempts.values()),
            keep_fresh(token_keys),
            keep_refreshed(*(found.codec for found in clients.values())),
        )
    )
    authority = VotingAuthority(VotingTokenVerifier(token_keys), DpopVerifier(), settings.public_url)
    cast = CastVotes(authority, cells, VoteTelemetry(metrics, telemetry.tracing))
    for cell, found in clients.items():
        telemetry.readiness.add(f"ledger_{cell}", partial(found.pool.fetchval, "SELECT true"))
        telemetry.readiness.add(f"workflows_{cell}", found.temporal.service_client.check_health)
    telemetry.readiness.add("voting_token_keys", partial(_has_keys, token_keys))
    app = create_application(
        "votes", telemetry, summary="Takes votes and says what became of them.", public_url=settings.public_url
    )
    sessions = {cell: AnswerSessions(found.pool) for cell, found in clients.items()}
    rows = {cell: found.ledger for cell, found in clients.items()}
    add_routes(app, authority, Answering(cells, sessions), Submissions(cells, rows, batches))
    return Service(app=app, lean_routes=lean_routes(cast))


async def _has_keys(keys: VerificationKeys) -> bool:
    """Tell whether any voting token could be verified; on a new system admission makes the first key."""
    if not keys.by_id:
        await keys.refresh()
    return bool(keys.by_id)


def _limits(settings: Settings) -> GatewayLimits:
    return GatewayLimits(
        batch_max=settings.vote_batch_max,
        in_flight=settings.vote_batches_in_flight,
        queue_max=settings.vote_queue_max,
        confirm_timeout_s=settings.vote_confirm_timeout_s,
        start_timeout_s=settings.vote_start_timeout_s,
    )


async def _attempts(
    settings: Settings, lifetime: AsyncExitStack, pseudonym_key: bytes, gateways: dict[str, Gateway]
) -> dict[str, Attempts]:
    attempts = {}
    for cell, gateway in gateways.items():
        producer = AttemptProducer(settings.cells[cell].kafka, cell)
        lifetime.push_async_callback(producer.close)
        attempts[cell] = Attempts(producer, pseudonym_key, gateway.gateway_id.hex())
    return attempts


def _record_listener(gateway: Gateway, metrics: VoteMetrics) -> RecordListener:
    def recorded(batch: SubmitVotesInput, record: RecordedVotes) -> None:
        gateway.recorded(batch, record)
        for outcome in Outcome:
            metrics.recorded(batch.cell, outcome.name.lower(), record.outcomes.count(outcome))

    return recorded


@asynccontextmanager
async def _eager_worker(clients: VotingCellClients, listener: RecordListener, release: Release) -> AsyncIterator[None]:
    """Serve the votes queue in this process, so that a start comes back with its first task."""
    activities = VotingActivities(clients.ledger, clients.summaries, listener)
    worker = build_worker(
        clients.temporal,
        VOTES_QUEUE,
        release,
        workflows=[SubmitVotesWorkflow],
        activities=[activities.record_votes, activities.announce_votes],
    )
    async with worker:
        yield


@asynccontextmanager
async def _background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
