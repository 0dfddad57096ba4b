"""Passes are scheduled while a survey is published, and end with it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio.service import RPCError, RPCStatusCode

from domain.ids import new_survey_id, reconcile_survey_workflow_id
from integrations.platform import RECONCILIATION_QUEUE
from integrations.postgres.pool import open_pool
from integrations.postgres.published_surveys import PublishedSurveys
from integrations.postgres.roles import RECONCILIATION
from integrations.temporal.schedules import ReconciliationSchedules
from tests.conftest import OwnerPool, SettingsFor
from tests.reconciliation_world import PATIENCE_S, World
from workers.reconciliation_schedules import ScheduleKeeper

INSERT = """
INSERT INTO catalogue.survey (survey_id, version, stage, title, regions, minimum_age, roll_required, visibility,
    minimum_step, start_at, finish_at, last_question_id, last_option_id, wrapped_ballot_key, wrapped_eligibility_key)
VALUES ($1, 1, 'published', 'A survey', '{}', 0, false, 'live', 1, now(), now() + interval '1 day', 0, 0, '', '')
"""


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await check():
            await asyncio.sleep(0.1)


async def exists(world: World, survey_id: str, kind: str) -> bool:
    try:
        await world.temporal.get_schedule_handle(reconcile_survey_workflow_id(survey_id, kind)).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def checked_at(world: World, column: str) -> object:
    return await world.one.owner.fetchval(
        f"SELECT {column} FROM reconciliation.checkpoint WHERE survey_id = $1", world.survey.id
    )


async def test_a_schedule_makes_passes_of_both_kinds_until_it_ends(world: World) -> None:
    await world.one.record()
    second = timedelta(seconds=1)
    schedules = ReconciliationSchedules(
        world.temporal, world.queue, tuple(world.places), incremental_every=second, complete_every=second
    )
    for _ in range(2):
        await schedules.begin(world.survey.id)
    try:

        async def completed() -> bool:
            return await checked_at(world, "completed_at") is not None

        async def again() -> bool:
            return await checked_at(world, "checked_at") != before

        await until(completed)
        before = await checked_at(world, "checked_at")
        await until(again)
        handle = world.temporal.get_schedule_handle(reconcile_survey_workflow_id(world.survey.id, "incremental"))
        assert (await handle.describe()).info.num_actions >= 1
    finally:
        for _ in range(2):
            await schedules.end(world.survey.id)
    for kind in ("incremental", "complete"):
        assert not await exists(world, world.survey.id, kind)


async def test_schedules_begin_with_publication_and_end_with_the_survey(
    world: World, settings_for: SettingsFor, owner_pool: OwnerPool
) -> None:
    settings = settings_for(RECONCILIATION)
    assert settings.catalogue is not None
    pool = await open_pool(settings.catalogue, settings, RECONCILIATION, size=1)
    owner, survey_id = await owner_pool("catalogue"), new_survey_id()
    schedules = ReconciliationSchedules(
        world.temporal, RECONCILIATION_QUEUE, tuple(settings.cells), incremental_every=timedelta(minutes=1)
    )
    keeper = ScheduleKeeper(PublishedSurveys(pool), schedules)
    try:
        await owner.execute(INSERT, survey_id)
        await keeper.keep(look_again=True)
        assert await exists(world, survey_id, "incremental")
        assert await exists(world, survey_id, "complete")

        async def listed() -> bool:
            return survey_id in await schedules.scheduled()

        await until(listed)
        await owner.execute("UPDATE catalogue.survey SET stage = 'finished' WHERE survey_id = $1", survey_id)
        another = ScheduleKeeper(PublishedSurveys(pool), schedules)  # a process that did not begin it
        await another.keep(look_again=True)
        assert not await exists(world, survey_id, "incremental")
        assert not await exists(world, survey_id, "complete")
        await keeper.keep(look_again=False)
    finally:
        await owner.execute("UPDATE catalogue.survey SET stage = 'finished' WHERE survey_id = $1", survey_id)
        await schedules.end(survey_id)
        await pool.close()
