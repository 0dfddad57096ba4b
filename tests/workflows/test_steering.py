"""What staff change of an open survey over the real Temporal: in every cell, noted once, and never after its end."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from domain.contracts.surveys import ExtendSurvey, SteerIntake, SurveyChanged, SurveyStage
from domain.errors import ErrorCode
from tests.workflows.survey_world import World, happens, working
from workflows.run_survey import RunSurveyWorkflow


async def steer(world: World, *, paused: bool, **fields: int) -> SurveyChanged:
    request = SteerIntake(actor="staff:u_x", paused=paused, **fields)
    return await world.handle.execute_update(RunSurveyWorkflow.set_intake, request)


async def extend(world: World, finish_at: datetime, **fields: int) -> SurveyChanged:
    request = ExtendSurvey(actor="staff:u_x", finish_at=finish_at, **fields)
    return await world.handle.execute_update(RunSurveyWorkflow.extend, request)


def code(refused: pytest.ExceptionInfo[WorkflowUpdateFailedError]) -> str | None:
    assert isinstance(refused.value.cause, ApplicationError)
    return refused.value.cause.type


async def test_votes_are_paused_and_resumed_in_every_cell_and_the_end_comes_all_the_same(client: Client) -> None:
    async with working(client, cached=0) as world:
        opened = await world.publish()
        paused = await steer(world, paused=True, expected_version=opened.version)
        assert paused.version == opened.version + 1
        assert await steer(world, paused=True) == paused
        assert [cell.intakes for cell in world.cells.values()] == [[True], [True]]
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await steer(world, paused=False, expected_version=opened.version)
        assert code(refused) == ErrorCode.PRECONDITION_FAILED
        await steer(world, paused=False)
        assert [cell.intakes for cell in world.cells.values()] == [[True, False]] * 2
        world.cells["us"].is_away = True
        pausing = asyncio.create_task(steer(world, paused=True))
        await happens(lambda: world.cells["eu"].intakes == [True, False, True])
        finishing = asyncio.create_task(world.finish())
        await happens(lambda: world.cells["eu"].windows[-1].finish_at is not None)
        world.cells["us"].is_away = False
        await asyncio.gather(pausing, finishing)
        await world.handle.result()
        await world.replayed("run-survey-paused")


async def test_a_pause_outlives_the_run_whose_history_was_long(client: Client) -> None:
    async with working(client) as world:
        await world.publish()
        paused = await steer(world, paused=True)
        before = (await world.handle.describe()).run_id
        for _ in range(4):  # Temporal suggests another run at 4 MiB
            await world.handle.signal("unheard", "x" * 1_500_000)
        assert await steer(world, paused=True) == paused
        async with asyncio.timeout(60):
            while (await world.handle.describe()).run_id == before:
                await asyncio.sleep(0.02)
        assert (await steer(world, paused=False)).version == paused.version + 1
        assert [cell.intakes for cell in world.cells.values()] == [[True, False]] * 2
        assert world.catalogue.frozen == 1
        await world.finish()


async def test_a_cell_that_is_away_keeps_no_other_from_being_paused_and_resumed(client: Client) -> None:
    async with working(client) as world:
        eu, us = world.cells["eu"], world.cells["us"]
        await world.publish()
        us.is_away = True
        pausing = asyncio.create_task(steer(world, paused=True))
        await happens(lambda: eu.intakes == [True])
        resuming = asyncio.create_task(steer(world, paused=False))
        await happens(lambda: eu.intakes == [True, False])
        assert not us.intakes
        again = asyncio.create_task(steer(world, paused=True))
        await happens(lambda: eu.intakes == [True, False, True])
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await steer(world, paused=False, expected_version=1)
        assert code(refused) == ErrorCode.PRECONDITION_FAILED
        us.is_away = False
        answers = await asyncio.gather(pausing, resuming, again)
        assert us.intakes == [True]  # what was overtaken meanwhile is not told any more
        assert {answer.version for answer in answers} == {world.survey.version}
        assert world.catalogue.entry.is_paused
        await world.finish()
        await world.handle.result()
        await world.replayed("run-survey-resumed-with-a-cell-away")


async def test_an_end_is_moved_to_later_only_and_before_it_comes(client: Client) -> None:
    first = datetime.now(UTC) + timedelta(hours=1)
    async with working(client, retention=timedelta(hours=1), finish_at=first) as world:
        opened = await world.publish()
        later = first + timedelta(hours=1)
        extended = await extend(world, later, expected_version=opened.version)
        assert (extended.finish_at, extended.version) == (later, opened.version + 1)
        assert {cell.windows[-1].finish_at for cell in world.cells.values()} == {later}
        assert world.survey.finish_at == later
        assert await extend(world, later) == extended
        for wanted in (first, later - timedelta(microseconds=1)):
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await extend(world, wanted)
            assert code(refused) == ErrorCode.SURVEY_INVALID
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await extend(world, later + timedelta(hours=1), expected_version=opened.version)
        assert code(refused) == ErrorCode.PRECONDITION_FAILED
        finished = await world.finish()
        assert finished.finish_at is not None
        assert finished.finish_at < first
        for step in (extend(world, later + timedelta(hours=1)), steer(world, paused=True)):
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await step
            assert code(refused) == ErrorCode.SURVEY_CLOSED
        await world.replayed("run-survey-extended-everywhere")


async def test_an_extension_waits_for_a_cell_that_is_away_and_the_end_does_not_wait_for_the_extension(
    client: Client,
) -> None:
    first = datetime.now(UTC) + timedelta(hours=1)
    async with working(client, finish_at=first) as world:
        eu, us = world.cells["eu"], world.cells["us"]
        await world.publish()
        us.is_away = True
        extended = await extend(world, first + timedelta(hours=1))
        assert (extended.finish_at, world.survey.finish_at) == (first + timedelta(hours=1),) * 2
        assert us.windows[-1].finish_at == first
        extending = asyncio.create_task(extend(world, first + timedelta(hours=2)))
        await happens(lambda: eu.windows[-1].finish_at == first + timedelta(hours=2))
        finishing = asyncio.create_task(world.finish())
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await extending
        assert code(refused) == ErrorCode.SURVEY_CLOSED
        await happens(lambda: (eu.windows[-1].finish_at or first) <= datetime.now(UTC))
        assert us.windows[-1].finish_at == first
        us.is_away = False
        finished = await finishing
        await world.handle.result()
        assert finished.finish_at == world.survey.finish_at == eu.windows[-1].finish_at == us.windows[-1].finish_at
        await world.replayed("run-survey-finished-while-extending")


async def test_an_end_that_passes_while_it_is_moved_is_no_end(client: Client) -> None:
    first = datetime.now(UTC) + timedelta(seconds=10)
    async with working(client, finish_at=first) as world:
        await world.publish()

        async def held_up(step: str) -> None:
            if step == "extend_survey":
                await asyncio.sleep((first - datetime.now(UTC)).total_seconds() + 0.5)

        world.after = held_up
        extended = await extend(world, first + timedelta(hours=1))
        assert datetime.now(UTC) > first
        assert extended.finish_at == first + timedelta(hours=1)
        assert await world.handle.query(RunSurveyWorkflow.stage) is SurveyStage.PUBLISHED
        assert (await steer(world, paused=True)).finish_at == extended.finish_at
        assert world.catalogue.finished == 0
        await world.finish()


async def test_what_has_no_end_or_nearly_ends_is_not_extended(client: Client) -> None:
    async with working(client) as world:
        await world.publish()
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await extend(world, datetime.now(UTC) + timedelta(hours=1))
        assert code(refused) == ErrorCode.SURVEY_INVALID
        await world.finish()
    finish_at = datetime.now(UTC) + timedelta(seconds=4)
    async with working(client, finish_at=finish_at) as world:
        await world.publish()
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await extend(world, finish_at + timedelta(hours=1))
        assert code(refused) == ErrorCode.SURVEY_CLOSED
        await world.handle.result()
