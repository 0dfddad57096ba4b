"""Serves reconciliation: passes over surveys and their schedules, in the namespace `platform`."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta

import asyncpg
import structlog
from temporalio.common import VersioningBehavior

from activities.reconciliation import CellPorts, ReconciliationActivities
from integrations.keys.evidence import EvidenceVerifier
from integrations.keys.opening import open_keys
from integrations.keys.purposes import EVIDENCE, public
from integrations.platform import IN_FLIGHT, RECONCILIATION_DEPLOYMENT, RECONCILIATION_QUEUE, open_platform
from integrations.postgres.ledger_audit import PostgresLedgerAudit
from integrations.postgres.pool import pool_on_demand
from integrations.postgres.published_surveys import PublishedSurveys
from integrations.postgres.references import CellReferences
from integrations.postgres.roles import RECONCILIATION
from integrations.redis.connection import open_redis
from integrations.redis.tally_audit import RedisTallyAudit
from integrations.settings import Settings
from integrations.spawned import SpawnedProcesses
from integrations.telemetry.metrics import TallyMetrics
from integrations.telemetry.reconciliation_metrics import ReconciliationMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.waiting_metrics import WaitingMetrics
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.schedules import ReconciliationSchedules
from integrations.temporal.worker import Release, build_worker
from workers.reconciliation_schedules import ScheduleKeeper
from workers.reference_checks import ReferenceChecks
from workers.releases import take_over
from workers.tally_repair import CellRepair
from workflows.reconcile_survey import ReconcileSurveyWorkflow

_STATEMENT_S = 3600.0  # a complete pass sorts a whole ledger before its first row
_POOL = 6
_PASSES_AT_ONCE = 4  # each is a processor's worth of checks

log = structlog.get_logger()


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Serve the queue of reconciliation; ready once this build is the current version.

    A cell that is away delays what is meant for it, and nothing else: its servers are asked for when they are needed.
    """
    keys = open_keys(settings, public(EVIDENCE), IN_FLIGHT, waiting=telemetry.waiting)
    clients = await open_platform(settings, keys, lifetime, telemetry, role=RECONCILIATION)
    pools = await open_cell_pools(settings, lifetime, telemetry.waiting)
    metrics = ReconciliationMetrics(telemetry.registry)
    tally_metrics = TallyMetrics(telemetry.registry)
    activities = compose_activities(
        settings, pools, EvidenceVerifier(keys), (metrics, tally_metrics), lifetime, waiting=telemetry.waiting
    )
    surveys = PublishedSurveys(clients.catalogue)
    keeper = ScheduleKeeper(
        surveys,
        ReconciliationSchedules(
            clients.temporal,
            RECONCILIATION_QUEUE,
            tuple(settings.cells),
            incremental_every=timedelta(seconds=settings.reconcile_every_s),
        ),
    )
    references = {cell: CellReferences(pool) for cell, pool in pools.items()}
    release = Release(RECONCILIATION_DEPLOYMENT, settings.build)
    worker = build_worker(
        clients.temporal,
        RECONCILIATION_QUEUE,
        release,
        workflows=[ReconcileSurveyWorkflow],
        activities=activities.all(),
        behaviour=VersioningBehavior.AUTO_UPGRADE,  # a complete pass waits as long as a cell is away
        max_concurrent_activities=_PASSES_AT_ONCE * len(settings.cells),
    )
    telemetry.readiness.add("workflows", clients.temporal.service_client.check_health)
    async with asyncio.TaskGroup() as running:
        beside = [
            running.create_task(work)
            for work in (
                keep_refreshed(clients.codec),
                keeper.run(),
                ReferenceChecks(surveys, references, metrics).run(),
            )
        ]
        serving = running.create_task(worker.run())
        await take_over(clients.temporal, release, settings, stopping)
        telemetry.readiness.start()
        log.info("reconciliation_worker_started", build=settings.build, cells=list(settings.cells))
        await stopping.wait()
        await worker.shutdown()
        await serving
        for work in beside:
            work.cancel()


async def open_cell_pools(
    settings: Settings, lifetime: AsyncExitStack, waiting: WaitingMetrics | None = None
) -> dict[str, asyncpg.Pool]:
    """Return a pool per cell as role `comitia_reconciliation`; a cell that is away is noticed when it is asked."""
    pools = {}
    for cell, addresses in settings.cells.items():
        pools[cell] = await pool_on_demand(
            addresses.database,
            settings,
            RECONCILIATION,
            size=_POOL,
            watch=None if waiting is None else waiting.watch_pool(cell, RECONCILIATION),
            command_timeout=_STATEMENT_S,
            timeout=5,
        )
        lifetime.callback(pools[cell].terminate)
    return pools


def compose_activities(
    settings: Settings,
    pools: Mapping[str, asyncpg.Pool],
    evidence: EvidenceVerifier,
    metrics: tuple[ReconciliationMetrics, TallyMetrics],
    lifetime: AsyncExitStack,
    *,
    waiting: WaitingMetrics | None = None,
) -> ReconciliationActivities:
    """Return the activities over these pools and the other servers of each cell."""
    executor = SpawnedProcesses()
    lifetime.callback(executor.shutdown, wait=False, cancel_futures=True)
    watch, tally_metrics = metrics
    cells = {}
    for cell, pool in pools.items():
        counted = None if waiting is None else waiting.watch_redis(f"reconciliation-{cell}")
        redis = open_redis(settings.cells[cell].redis, watch=counted)
        lifetime.push_async_callback(redis.aclose)
        cells[cell] = CellPorts(
            ledger=PostgresLedgerAudit(pool, cell),
            tally=RedisTallyAudit(redis, cell),
            repair=CellRepair(cell, pool, redis, settings.cells[cell].kafka, tally_metrics),
        )
    return ReconciliationActivities(cells, evidence, watch, executor)
