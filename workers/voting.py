"""Stand-alone workers of the votes queue: they finish what a killed API process had started, and all retries."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import structlog
from temporalio.client import Client
from temporalio.worker import Worker

from activities.voting import VotingActivities
from integrations.keys.opening import open_keys
from integrations.keys.purposes import DAILY, KEK_BALLOT
from integrations.postgres.answer_sessions import AnswerSessions
from integrations.postgres.pool import NotDurableError
from integrations.reaching import any_answers, reach_cells
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.batches import VOTES_QUEUE
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.worker import Release, build_worker
from integrations.voting_cell import DEPLOYMENT, VotingCellClients, open_voting_cell
from workers.key_retirement import retire_in_flight_keys
from workers.releases import drain, take_over
from workers.session_purge import purge_answer_sessions
from workflows.submit_votes import SubmitVotesWorkflow

log = structlog.get_logger()


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Serve the votes queue of every cell; ready once this build is the current version wherever a cell answers.

    Processes of the votes API of the same build start after that: an eager start runs on its own build, and somebody
    must be able to go on with it. Where another build has become the current one, it stops when this one's executions
    have ended.
    """
    keys = open_keys(settings, KEK_BALLOT, DAILY, waiting=telemetry.waiting)
    release = Release(DEPLOYMENT, settings.build)
    opened: dict[str, Client] = {}
    checks: dict[str, Callable[[], Awaitable[object]]] = {}

    async def open_cell(cell: str, stack: AsyncExitStack) -> None:
        clients = await open_voting_cell(cell, settings, keys, stack, telemetry)
        for work in (
            keep_refreshed(clients.codec),
            retire_in_flight_keys(cell, keys, clients.temporal),
            purge_answer_sessions(cell, AnswerSessions(clients.pool)),
        ):
            stack.callback(asyncio.create_task(work).cancel)
        worker = await stack.enter_async_context(_worker(clients, release))
        await take_over(clients.temporal, release, settings, stopping)
        opened[cell] = clients.temporal
        checks[cell] = partial(_answers, clients, worker)

    await reach_cells(settings.cells, open_cell, lifetime, final=(NotDurableError,))
    telemetry.readiness.add("cells", lambda: any_answers(checks.values()))
    telemetry.readiness.start()
    log.info("voting_worker_started", build=settings.build)
    await stopping.wait()
    await asyncio.gather(*(drain(client, release, settings.worker_drain_s) for client in opened.values()))


async def _answers(clients: VotingCellClients, worker: Worker) -> bool:
    if not worker.is_running or not await clients.temporal.service_client.check_health():
        return False
    return await clients.pool.fetchval("SELECT true") is True


def _worker(clients: VotingCellClients, release: Release) -> Worker:
    activities = VotingActivities(clients.ledger, clients.summaries)
    return build_worker(
        clients.temporal,
        VOTES_QUEUE,
        release,
        workflows=[SubmitVotesWorkflow],
        activities=[activities.record_votes, activities.announce_votes],
    )
