"""Seals the audit logs of every cell and of the catalogue; the one process that may sign their tree heads.

It reads entries and gives them places. It can neither write an entry nor change what is sealed.
"""

import asyncio
from contextlib import AsyncExitStack

import structlog

from activities.audit_sealing import AuditSealingActivities
from domain.audit import CATALOGUE_LOG
from integrations.keys.file_kms import open_keys
from integrations.keys.purposes import AUDIT_LOG
from integrations.keys.signing import LogKeys
from integrations.objects.log_objects import open_writable_log_objects
from integrations.platform import AUDIT_DEPLOYMENT, AUDIT_QUEUE, IN_FLIGHT, cell_pools, open_platform
from integrations.postgres.audit_sequence import PostgresAuditSequence
from integrations.postgres.roles import AUDIT
from integrations.settings import Settings
from integrations.telemetry.audit_metrics import AuditMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.worker import Release, build_worker
from workers.releases import take_over
from workers.seal_schedule import schedule_sealing
from workflows.seal_audit_log import SealAuditLogWorkflow

_STATEMENT_TIMEOUT_S = 30.0  # thousands of entries

log = structlog.get_logger()


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Serve the queue `audit`; ready once this build is the current version.

    A cell that is away delays its own log, and no other.
    """
    objects = await open_writable_log_objects(settings)
    keys = open_keys(settings, AUDIT_LOG, IN_FLIGHT)
    interceptor = telemetry.tracing.temporal_interceptor()
    clients = await open_platform(settings, keys, lifetime, interceptor, role=AUDIT)
    pools = {
        **await cell_pools(settings, lifetime, AUDIT, statement_timeout_s=_STATEMENT_TIMEOUT_S),
        CATALOGUE_LOG: clients.catalogue,
    }
    sealing = AuditSealingActivities(
        {name: PostgresAuditSequence(pool) for name, pool in pools.items()},
        objects,
        LogKeys(keys, AUDIT_LOG),
        AuditMetrics(telemetry.registry),
        environment=settings.environment.value,
    )
    release = Release(AUDIT_DEPLOYMENT, settings.build)
    worker = build_worker(
        clients.temporal, AUDIT_QUEUE, release, workflows=[SealAuditLogWorkflow], activities=sealing.all()
    )
    telemetry.readiness.add("workflows", clients.temporal.service_client.check_health)
    async with asyncio.TaskGroup() as running:
        refreshing = running.create_task(keep_refreshed(clients.codec))
        serving = running.create_task(worker.run())
        await take_over(clients.temporal, release, settings, stopping)
        await schedule_sealing(clients.temporal, tuple(pools))
        telemetry.readiness.start()
        log.info("audit_worker_started", build=settings.build, logs=sorted(pools))
        await stopping.wait()
        await worker.shutdown()
        await serving
        refreshing.cancel()
