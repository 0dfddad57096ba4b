"""Drains cells at the end of a survey, counts its sealed ballots again, publishes them and signs the certificate.

The one process besides the vote path that may open ballots, and only of surveys that are sealed.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from temporalio.worker import Worker

from activities.certification import CertificationActivities
from activities.draining import ClosingCell, DrainActivities
from integrations.keys.opening import open_keys
from integrations.keys.purposes import CERTIFICATE, KEK_BALLOT
from integrations.keys.signing import CertificateKeys
from integrations.objects.files import open_files
from integrations.platform import CERTIFICATION_DEPLOYMENT, CERTIFICATION_QUEUE, IN_FLIGHT, cell_pools
from integrations.postgres.closing_ledger import PostgresClosingLedger
from integrations.postgres.recount import RecountLedger
from integrations.postgres.replicas import open_reader
from integrations.postgres.roles import CERTIFICATION
from integrations.reaching import reach_cells
from integrations.recount.recounter import LedgerRecounter
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec, keep_refreshed
from integrations.temporal.executions import TemporalBatchExecutions
from integrations.temporal.worker import Release, build_worker
from workers.releases import take_over

_STATEMENT_TIMEOUT_S = 60.0  # sums over a whole survey
_ACTIVITIES_AT_ONCE = 20  # most of which wait for batches

log = structlog.get_logger()


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Serve the queue `certification`; ready once this build is the current version.

    A cell that is away delays the certificates of its surveys, and nothing else.
    """
    if settings.platform_temporal is None:
        raise LookupError("COMITIA_PLATFORM_TEMPORAL is not set")
    objects = open_files(settings)
    keys = open_keys(settings, KEK_BALLOT, CERTIFICATE, IN_FLIGHT, waiting=telemetry.waiting)
    codec = EncryptionCodec(keys, IN_FLIGHT)
    await codec.refresh()
    temporal = await connect(settings.platform_temporal, codec, telemetry)
    pools = await cell_pools(
        settings, lifetime, CERTIFICATION, waiting=telemetry.waiting, statement_timeout_s=_STATEMENT_TIMEOUT_S
    )
    closing: dict[str, ClosingCell] = {}

    async def open_cell(cell: str, _stack: AsyncExitStack) -> None:
        client = await connect(settings.cells[cell].temporal, codec)
        closing[cell] = ClosingCell(PostgresClosingLedger(pools[cell]), TemporalBatchExecutions(client, cell))

    await reach_cells(settings.cells, open_cell, lifetime)
    ledgers = {
        cell: RecountLedger(
            await open_reader(
                settings.cells[cell].database,
                settings,
                CERTIFICATION,
                lifetime,
                max_lag_s=0,  # a survey that was sealed a moment ago is sealed there, too
                primary=pool,
                watch=telemetry.waiting.watch_pool(cell, f"{CERTIFICATION}/standby"),
                command_timeout=_STATEMENT_TIMEOUT_S,
            )
        )
        for cell, pool in pools.items()
    }
    certifying = CertificationActivities(
        LedgerRecounter(ledgers, keys, objects),
        CertificateKeys(keys, CERTIFICATE),
        objects,
        build=settings.build,
        retention=timedelta(days=settings.survey_retention_days),
    )
    release = Release(CERTIFICATION_DEPLOYMENT, settings.build)
    worker: Worker = build_worker(
        temporal,
        CERTIFICATION_QUEUE,
        release,
        workflows=[],
        activities=[*DrainActivities(closing).all(), *certifying.all()],
        max_concurrent_activities=_ACTIVITIES_AT_ONCE,
    )
    telemetry.readiness.add("workflows", temporal.service_client.check_health)
    async with asyncio.TaskGroup() as running:
        refreshing = running.create_task(keep_refreshed(codec))
        serving = running.create_task(worker.run())
        await take_over(temporal, release, settings, stopping)
        telemetry.readiness.start()
        log.info("certification_worker_started", build=settings.build, cells=list(settings.cells))
        await stopping.wait()
        await worker.shutdown()
        await serving
        refreshing.cancel()
