"""The life of a survey over the real Temporal: whatever is killed or away, it opens everywhere or nowhere."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError

from domain.contracts.surveys import (
    OpenedSurvey,
    SurveyChanged,
    SurveyStage,
)
from domain.errors import ErrorCode
from domain.ids import run_survey_workflow_id
from tests.workflows.survey_world import CELLS, World, everywhere, happens, working
from workflows.run_survey import RunSurveyWorkflow


@pytest.mark.parametrize("cached", [0, 50])
async def test_published_corrected_finished(client: Client, cached: int) -> None:
    async with working(client, cached=cached) as world:
        opened = await world.publish()
        assert opened.stage is SurveyStage.PUBLISHED
        everywhere(world, opened.start_at, None)
        assert (await world.publish()) == opened
        await world.correct("Luncheon")
        await happens(lambda: all(cell.installed[-1].survey.title == "Luncheon" for cell in world.cells.values()))
        assert await world.handle.query(RunSurveyWorkflow.stage) is SurveyStage.PUBLISHED
        finished = await world.finish()
        everywhere(world, opened.start_at, finished.finish_at)
        assert world.survey.finish_at == finished.finish_at
        everyone = {(cell, stage) for cell in CELLS for stage in (SurveyStage.PUBLISHED, SurveyStage.FINISHED)}
        await happens(lambda: {(told.cell, told.change.stage) for told in world.told} == everyone)
        await world.replayed("run-survey-corrected-and-finished")


STEPS = [
    "freeze_survey",
    "provide_survey_keys",
    "install_survey",
    "set_survey_window",
    "open_survey",
    "announce_survey",
    "correct_survey",
    "finish_survey",
]


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_killed_after_any_step_changes_nothing(client: Client, step: str) -> None:
    world = World(client)
    reached, gone = asyncio.Event(), asyncio.Event()

    async def stall(name: str) -> None:
        if name == step and not gone.is_set():
            reached.set()
            await asyncio.Event().wait()  # the effect is there, and nobody will ever report it

    async def live() -> SurveyChanged:
        await world.publish()
        await world.correct("Luncheon")
        return await world.finish()

    world.after = stall
    async with asyncio.timeout(120):
        async with world.worker():
            life = asyncio.create_task(live())
            await reached.wait()
            gone.set()
        async with world.worker():
            finished = await life
            newest = finished.version - 1
            await happens(lambda: all(cell.installed[-1].survey.version == newest for cell in world.cells.values()))
    assert (world.catalogue.frozen, world.catalogue.finished) == (1, 1)
    assert world.catalogue.kept is not None
    for cell in world.cells.values():
        assert {request.wrapped_ballot_key for request in cell.installed} == {world.catalogue.kept.wrapped_ballot_key}
        assert {window.start_at for window in cell.windows} == {world.survey.start_at}
        assert cell.windows[-1].finish_at == world.survey.finish_at
        assert max(request.survey.version for request in cell.installed) == finished.version - 1
    await world.replayed()


async def test_nothing_opens_before_every_cell_has_it(client: Client) -> None:
    async with working(client) as world:
        world.cells["us"].is_away = True
        publication = asyncio.create_task(world.publish())
        await happens(lambda: bool(world.cells["eu"].installed))
        assert await world.handle.query(RunSurveyWorkflow.stage) is SurveyStage.PUBLISHING
        assert not world.cells["eu"].windows
        assert world.catalogue.entry.stage is SurveyStage.PUBLISHING
        world.cells["us"].is_away = False
        opened = await publication
        everywhere(world, opened.start_at, None)
        await world.finish()
        await world.replayed("run-survey-cell-away")


async def test_an_end_asked_for_before_the_opening_comes_right_after_it(client: Client) -> None:
    async with working(client) as world:
        world.cells["us"].is_away = True
        publication = asyncio.create_task(world.publish())
        await happens(lambda: bool(world.cells["eu"].installed))
        end = asyncio.create_task(world.finish())
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await world.correct("Luncheon")
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.SURVEY_FROZEN
        world.cells["us"].is_away = False
        opened, finished = await publication, await end
        assert opened.start_at is not None
        assert finished.finish_at is not None
        assert opened.start_at <= finished.finish_at
        await world.replayed("run-survey-ended-while-publishing")


async def test_an_end_asked_for_while_it_opens_does_not_wait_for_the_cell_that_it_waits_for(client: Client) -> None:
    world = World(client)
    eu, us = world.cells["eu"], world.cells["us"]

    async def leave(_step: str) -> None:
        us.is_away = us.is_away or (bool(us.installed) and not us.windows and not world.catalogue.finished)

    world.after = leave
    async with asyncio.timeout(120), world.worker():
        publication = asyncio.create_task(world.publish())
        await happens(lambda: bool(eu.windows))
        finished = await world.finish()
        assert eu.windows[-1].finish_at == finished.finish_at == world.survey.finish_at
        assert not us.windows
        us.is_away = False
        await publication
        await happens(lambda: bool(us.windows) and us.windows[-1].finish_at == finished.finish_at)
        await world.handle.result()
        await world.replayed("run-survey-ended-while-opening")


async def test_a_draft_that_cannot_be_frozen_ends_the_process_and_can_be_tried_again(client: Client) -> None:
    async with working(client) as world:
        for _ in range(2):
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await world.publish(expected_version=7)
            assert isinstance(refused.value.cause, ApplicationError)
            assert refused.value.cause.type == ErrorCode.PRECONDITION_FAILED
            with pytest.raises(WorkflowFailureError):
                await world.handle.result()
        assert world.catalogue.frozen == 0
        assert not any(cell.installed for cell in world.cells.values())
        await world.replayed("run-survey-refused")
        assert (await world.publish(expected_version=1)).stage is SurveyStage.PUBLISHED
        await world.finish()


async def test_finishing_wants_the_version_that_was_seen(client: Client) -> None:
    async with working(client) as world:
        opened = await world.publish()
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await world.finish(expected_version=opened.version - 1)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.PRECONDITION_FAILED
        assert not any(cell.windows[-1].finish_at for cell in world.cells.values())
        assert (await world.finish(expected_version=opened.version)).stage is SurveyStage.FINISHED


async def test_a_schedule_opens_and_closes_by_itself(client: Client) -> None:
    start = datetime.now(UTC) + timedelta(seconds=4)  # longer than publishing takes on a busy machine
    finish = start + timedelta(seconds=1)
    async with working(client, start_at=start, finish_at=finish) as world:
        opened = await world.publish()
        assert (opened.start_at, opened.finish_at) == (start, finish)
        everywhere(world, start, finish)
        await happens(lambda: world.catalogue.finished == 1)
        assert world.survey.finish_at == finish
        assert datetime.now(UTC) >= finish
        assert all(len(cell.windows) == 1 for cell in world.cells.values())
        await world.replayed("run-survey-scheduled")


async def test_an_end_that_passed_while_a_cell_was_away_leaves_an_empty_window(client: Client) -> None:
    finish = datetime.now(UTC) + timedelta(seconds=1)
    async with working(client, finish_at=finish) as world:
        world.cells["us"].is_away = True
        publication = asyncio.create_task(world.publish())
        await happens(lambda: datetime.now(UTC) > finish)
        world.cells["us"].is_away = False
        opened = await publication
        assert opened.start_at == opened.finish_at
        everywhere(world, opened.start_at, opened.start_at)
        await happens(lambda: world.catalogue.finished == 1)


async def test_an_end_asked_for_after_the_scheduled_one_moves_nothing(client: Client) -> None:
    end = datetime.now(UTC) + timedelta(seconds=8)
    world = World(client, finish_at=end)
    async with asyncio.timeout(120):
        async with world.worker():
            await world.publish()
        finishing = asyncio.create_task(world.finish())  # nobody is there to hear either
        await asyncio.sleep((end - datetime.now(UTC)).total_seconds() + 0.3)
        async with world.worker():
            assert (await finishing).finish_at == end
            await world.handle.result()
    assert {cell.windows[-1].finish_at for cell in world.cells.values()} == {end}


async def test_a_run_that_is_handed_an_open_survey_goes_on_with_it(client: Client) -> None:
    async with working(client) as world:
        opened = await world.publish()
        await world.handle.terminate("its history is long, say")
        keys = world.catalogue.kept
        assert keys is not None
        handed = world.input(opened=OpenedSurvey(survey=world.survey, keys=keys))
        await world.client.start_workflow(
            RunSurveyWorkflow.run, handed, id=run_survey_workflow_id(world.survey_id), task_queue=world.queue
        )
        assert (await world.correct("Luncheon")).version == opened.version + 1
        finished = await world.finish()
        assert finished.start_at == opened.start_at
        assert world.catalogue.frozen == 1
        await happens(lambda: all(cell.installed[-1].survey.title == "Luncheon" for cell in world.cells.values()))
        await world.replayed("run-survey-continued")
