"""Serves what belongs to no cell: the lives of surveys and exports of their results, in the namespace `platform`."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.common import VersioningBehavior
from temporalio.worker import Worker

from activities.closing import ClosingActivities
from activities.exports import ExportActivities
from activities.key_rotation import KeyRotationActivities
from activities.steering import SteeringActivities
from activities.surveys import SurveyActivities
from integrations.kafka.survey_changes import SurveyChangeProducer
from integrations.keys.opening import open_keys
from integrations.keys.purposes import HASH_KEYS, KEY_ENCRYPTION_KEYS, SHORT_LIVED_KEYS, generate, manage
from integrations.keys.wrapping import KeyNames
from integrations.objects.files import open_files
from integrations.platform import (
    DEPLOYMENT,
    EXPORTS_QUEUE,
    IN_FLIGHT,
    KEYS_QUEUE,
    SURVEYS_QUEUE,
    catalogue_pool,
    cell_pools,
    open_platform,
)
from integrations.postgres.catalogue import PostgresCatalogue
from integrations.postgres.catalogue_exports import PostgresExports
from integrations.postgres.cell_closing import PostgresCellClosing
from integrations.postgres.cell_surveys import PostgresCellSurveys
from integrations.postgres.certifications import PostgresCertifications
from integrations.postgres.personal_keys import PostgresPersonalKeys
from integrations.postgres.roles import CLOSING, SURVEYS
from integrations.postgres.wrapped_keys import PostgresCatalogueKeys, PostgresCellKeys
from integrations.results.opening import open_results
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.worker import Release, build_worker
from workers.key_schedule import schedule_key_rotation
from workers.releases import drain, take_over
from workflows.export_results import ExportResultsWorkflow
from workflows.rotate_keys import RotateKeysWorkflow
from workflows.run_survey import RunSurveyWorkflow

_CLOSINGS_AT_ONCE = 4  # steps that note something in the catalogue, of all surveys
_STICKY = timedelta(seconds=2)  # how long a survey waits for a killed worker before another takes it

log = structlog.get_logger()


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Serve the platform's queues; ready once this build is the current version.

    A cell that is away delays what is meant for it, and nothing else: its database is asked for when it is needed.
    """
    objects = open_files(settings)
    keys = open_keys(
        settings,
        *(permission(purpose) for permission in (generate, manage) for purpose in KEY_ENCRYPTION_KEYS),
        *(manage(purpose) for purpose in (*HASH_KEYS, *SHORT_LIVED_KEYS)),
        IN_FLIGHT,
        waiting=telemetry.waiting,
    )
    clients = await open_platform(settings, keys, lifetime, telemetry)
    announcer = SurveyChangeProducer(
        {cell: addresses.kafka for cell, addresses in settings.cells.items()}, metrics=telemetry.waiting
    )
    lifetime.push_async_callback(announcer.close)
    pools = await cell_pools(settings, lifetime, waiting=telemetry.waiting)
    cells = {cell: PostgresCellSurveys(pool) for cell, pool in pools.items()}
    closing = await _closing(settings, lifetime, telemetry)
    catalogue = PostgresCatalogue(clients.catalogue)
    results = (await open_results(settings, lifetime, SURVEYS, telemetry.waiting, from_standby=True)).results
    exports = PostgresExports(clients.catalogue)
    release = Release(DEPLOYMENT, settings.build)
    workers = [
        _surveys_worker(
            clients.temporal,
            release,
            [
                *SurveyActivities(catalogue, keys, cells, announcer).all(),
                *SteeringActivities(catalogue, cells).all(),
                *closing.all(),
            ],
        ),
        _exports_worker(clients.temporal, release, ExportActivities(catalogue, exports, results, objects)),
        _keys_worker(
            clients.temporal,
            release,
            KeyRotationActivities(
                keys,
                KeyNames(),
                PostgresCatalogueKeys(clients.catalogue),
                {cell: PostgresCellKeys(pool) for cell, pool in pools.items()},
                {cell: PostgresPersonalKeys(pool) for cell, pool in pools.items()},
            ),
        ),
    ]
    telemetry.readiness.add("catalogue", lambda: clients.catalogue.fetchval("SELECT true"))
    telemetry.readiness.add("workflows", clients.temporal.service_client.check_health)
    async with asyncio.TaskGroup() as running:
        refreshing = running.create_task(keep_refreshed(clients.codec))
        serving = [running.create_task(worker.run()) for worker in workers]
        await take_over(clients.temporal, release, settings, stopping)
        await schedule_key_rotation(clients.temporal, tuple(settings.cells))
        telemetry.readiness.start()
        log.info("platform_worker_started", build=settings.build, cells=list(settings.cells))
        await stopping.wait()
        await drain(clients.temporal, release, settings.worker_drain_s)
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await asyncio.gather(*serving)
        refreshing.cancel()


async def _closing(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> ClosingActivities:
    """Return what ends surveys, as a role that no process answering requests has."""
    catalogue = await catalogue_pool(settings, lifetime, CLOSING, waiting=telemetry.waiting, size=_CLOSINGS_AT_ONCE)
    pools = await cell_pools(settings, lifetime, CLOSING, waiting=telemetry.waiting)
    cells = {cell: PostgresCellClosing(pool, cell) for cell, pool in pools.items()}
    return ClosingActivities(PostgresCertifications(catalogue), cells)


def _surveys_worker(client: Client, release: Release, activities: list[Callable[..., Any]]) -> Worker:
    return build_worker(
        client,
        SURVEYS_QUEUE,
        release,
        workflows=[RunSurveyWorkflow],
        activities=activities,
        behaviour=VersioningBehavior.AUTO_UPGRADE,  # a survey may be open for months
        sticky_queue_schedule_to_start_timeout=_STICKY,
    )


def _exports_worker(client: Client, release: Release, activities: ExportActivities) -> Worker:
    return build_worker(client, EXPORTS_QUEUE, release, workflows=[ExportResultsWorkflow], activities=activities.all())


def _keys_worker(client: Client, release: Release, activities: KeyRotationActivities) -> Worker:
    return build_worker(client, KEYS_QUEUE, release, workflows=[RotateKeysWorkflow], activities=activities.all())
