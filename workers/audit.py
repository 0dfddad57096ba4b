"""Seals the audit logs of every cell and of the catalogue, and archives the histories of every cell and the platform.

The one process that may sign tree heads. It reads entries and gives them places, and keeps what they are found by; it
can neither write an entry nor change what is sealed. Of histories it reads what the server keeps, and has no key that
opens a payload of a cell.
"""

import asyncio
from contextlib import AsyncExitStack

import structlog

from activities.audit_sealing import AuditSealingActivities
from activities.history_archive import HistoryArchiveActivities
from activities.log_indexing import LogIndexing
from activities.log_reading import LogReading
from domain.archive_ports import PLATFORM_ARCHIVE, ArchiveCell
from domain.audit import CATALOGUE_LOG
from domain.audit_log import origin_of
from integrations.keys.opening import open_keys
from integrations.keys.purposes import AUDIT_LOG
from integrations.keys.signing import LogKeys
from integrations.objects.log_objects import open_writable_log_objects
from integrations.platform import AUDIT_DEPLOYMENT, AUDIT_QUEUE, IN_FLIGHT, cell_pools, open_platform
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.audit_sequence import PostgresAuditSequence
from integrations.postgres.log_search import PostgresLogSearch
from integrations.postgres.roles import AUDIT
from integrations.reaching import reach_cells
from integrations.settings import Settings
from integrations.telemetry.archive_metrics import ArchiveMetrics
from integrations.telemetry.audit_metrics import AuditMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.client import connect
from integrations.temporal.closed_histories import TemporalClosedHistories, never_archived
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.worker import Release, build_worker
from workers.archive_schedule import schedule_archive
from workers.log_search import keep_searchable
from workers.releases import take_over
from workers.seal_schedule import schedule_sealing
from workflows.archive_histories import ArchiveHistoriesWorkflow
from workflows.seal_audit_log import SealAuditLogWorkflow

_STATEMENT_TIMEOUT_S = 30.0  # thousands of entries

log = structlog.get_logger()


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Serve the queue `audit`; ready once this build is the current version.

    A cell that is away delays its own log and its own archive, and no other.
    """
    objects = await open_writable_log_objects(settings)
    keys = open_keys(settings, AUDIT_LOG, IN_FLIGHT, waiting=telemetry.waiting)
    clients = await open_platform(settings, keys, lifetime, telemetry, role=AUDIT)
    pools = {
        **await cell_pools(
            settings, lifetime, AUDIT, waiting=telemetry.waiting, statement_timeout_s=_STATEMENT_TIMEOUT_S
        ),
        CATALOGUE_LOG: clients.catalogue,
    }
    signer = LogKeys(keys, AUDIT_LOG)
    sealing = AuditSealingActivities(
        {name: PostgresAuditSequence(pool) for name, pool in pools.items()},
        objects,
        signer,
        AuditMetrics(telemetry.registry),
        environment=settings.environment.value,
    )
    indexing = {
        name: LogIndexing(
            LogReading(objects, signer, name, origin_of(settings.environment.value, name)), PostgresLogSearch(pool)
        )
        for name, pool in pools.items()
    }
    of_platform = TemporalClosedHistories(clients.temporal, never=never_archived(PLATFORM_ARCHIVE))
    archived = {PLATFORM_ARCHIVE: ArchiveCell(of_platform, PostgresArchive(clients.catalogue))}

    async def open_cell(cell: str, _stack: AsyncExitStack) -> None:
        client = await connect(settings.cells[cell].temporal, clients.codec)
        archived[cell] = ArchiveCell(TemporalClosedHistories(client), PostgresArchive(pools[cell]))

    await reach_cells(settings.cells, open_cell, lifetime)
    archiving = HistoryArchiveActivities(archived, objects, ArchiveMetrics(telemetry.registry))
    release = Release(AUDIT_DEPLOYMENT, settings.build)
    worker = build_worker(
        clients.temporal,
        AUDIT_QUEUE,
        release,
        workflows=[ArchiveHistoriesWorkflow, SealAuditLogWorkflow],
        activities=[*sealing.all(), *archiving.all()],
    )
    telemetry.readiness.add("workflows", clients.temporal.service_client.check_health)
    async with asyncio.TaskGroup() as running:
        beside = [running.create_task(keep_refreshed(clients.codec))]
        beside += [running.create_task(keep_searchable(name, each)) for name, each in indexing.items()]
        serving = running.create_task(worker.run())
        await take_over(clients.temporal, release, settings, stopping)
        await schedule_sealing(clients.temporal, tuple(pools))
        await schedule_archive(clients.temporal, (*settings.cells, PLATFORM_ARCHIVE))
        telemetry.readiness.start()
        log.info("audit_worker_started", build=settings.build, logs=sorted(pools))
        await stopping.wait()
        await worker.shutdown()
        await serving
        for task in beside:
            task.cancel()
