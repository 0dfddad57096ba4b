"""What follows an end over the real Temporal: nothing is certified that differs, and nothing is opened again."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError

from domain.certificates import certificate_id
from domain.contracts.certification import (
    CertificationDifference,
    CertificationStage,
    CertificationState,
    RequestCertification,
)
from domain.contracts.reconciliation import Difference, DifferenceKind
from domain.contracts.surveys import OpenedSurvey, SteerIntake
from domain.draining import CLOCKS_AGREE_WITHIN, BatchExecution
from domain.errors import ErrorCode
from domain.ids import run_survey_workflow_id
from tests.workflows.survey_world import CELLS, World, happens, working
from workflows.run_survey import RunSurveyWorkflow

S = CertificationStage
WAY = [S.DRAINING, S.RECONCILING, S.RECOUNTING, S.PUBLISHING, S.CERTIFIED, S.KEYS_DESTROYED]


def stages(world: World) -> list[CertificationStage]:
    return [state.stage for state in world.certifications.states]


def shown(world: World) -> CertificationState:
    return world.certifications.states[-1]


async def uncertified(world: World) -> CertificationState:
    await happens(lambda: bool(world.certifications.states) and shown(world).stage is S.UNCERTIFIED)
    queried = await world.handle.query(RunSurveyWorkflow.certification)
    assert queried == shown(world)
    assert not any(cell.certificates for cell in world.cells.values())
    return shown(world)


async def certify(world: World) -> None:
    await world.handle.execute_update(RunSurveyWorkflow.certify, RequestCertification(actor="staff:u_x"))


async def test_an_ended_survey_is_certified_and_its_keys_are_destroyed_after_its_retention(client: Client) -> None:
    async with working(client, cached=0, retention=timedelta(seconds=1)) as world:
        world.cells["eu"].ballots = 3
        await world.publish()
        finished = await world.finish()
        assert await world.handle.result() == finished
        assert stages(world) == WAY
        state = shown(world)
        assert {(cell.cell, cell.closed_at) for cell in state.sealed} == {(cell, finished.finish_at) for cell in CELLS}
        assert state.certificate is not None
        assert state.keys_destroyed_at is not None
        assert state.keys_destroyed_at >= state.certificate.certified_at + world.retention
        assert world.certifications.are_keys_destroyed
        for cell in world.cells.values():
            assert cell.certificates == [state.certificate.certificate_id]
            assert not cell.has_keys
        envelope = json.loads(world.objects.files[state.certificate.stored.name])
        assert certificate_id(envelope["certificate"]) == state.certificate.certificate_id
        assert envelope["certificate"]["participations"] == 3
        (reconciled,) = world.reconciled
        assert (reconciled.complete, reconciled.cells) == (True, CELLS)
        await world.replayed("run-survey-certified-as-compared")


async def test_what_reconciliation_finds_keeps_it_uncertified_until_staff_ask_after_a_repair(client: Client) -> None:
    async with working(client) as world:
        world.differing = (
            Difference(kind=DifferenceKind.BALLOTS_ROOT_DIFFERS, cell="us", detail="not its root", batch="ab-7"),
        )
        await world.publish()
        await world.finish()
        state = await uncertified(world)
        assert [(found.cell, found.kind, found.row) for found in state.differences] == [
            ("us", "ballots_root_differs", "batch ab-7")
        ]
        sealed_at = {cell.cell: cell.sealed_at for cell in state.sealed}
        await certify(world)
        await happens(lambda: shown(world).attempt == 2 and shown(world).stage is S.UNCERTIFIED)
        world.differing = ()
        await certify(world)
        await world.handle.result()
        assert shown(world).attempt == 3
        assert {cell.cell: cell.sealed_at for cell in shown(world).sealed} == sealed_at
        assert not shown(world).differences
        assert world.certifications.asked == ["staff:u_x"] * 2
        await world.replayed("run-survey-differing-then-certified")


async def test_what_the_recount_finds_is_named_too(client: Client) -> None:
    async with working(client) as world:
        found = CertificationDifference(cell="eu", kind="ballot_unreadable", row="ballot 1 of batch ab-7")
        world.recounter.differences = (found,)
        await world.publish()
        await world.finish()
        assert (await uncertified(world)).differences == (found,)
        world.recounter.differences = ()
        await certify(world)
        await world.handle.result()
        await world.replayed("run-survey-recount-differs")


async def test_what_reconciliation_has_not_compared_keeps_it_uncertified(client: Client) -> None:
    async with working(client) as world:
        world.cells["us"].ballots = 1
        world.unreached = ("all/cells", "eu/tally")
        await world.publish()
        await world.finish()
        assert await open_rows(world, 1) == [("", "not_reconciled", "cells"), ("eu", "not_reconciled", "tally")]
        world.unreached, world.unchecked = ("us/ledger",), "us"
        await certify(world)
        assert await open_rows(world, 2) == [("us", "not_reconciled", "ledger")]
        world.unreached, world.unchecked, world.unseen = (), "", 1
        await certify(world)
        assert await open_rows(world, 3) == [(cell, "reconciliation_differs", "ballots") for cell in CELLS]
        world.unseen = 0
        await certify(world)
        await world.handle.result()
        assert shown(world).certificate is not None
        await world.replayed("run-survey-not-reconciled")


async def open_rows(world: World, attempt: int) -> list[tuple[str, str, str]]:
    """What ended a try, each by cell, kind and row."""
    await happens(lambda: bool(world.certifications.states) and shown(world).attempt == attempt)
    return [(found.cell, found.kind, found.row) for found in (await uncertified(world)).differences]


async def test_a_batch_that_runs_is_waited_for_and_one_that_is_lost_is_named_before_anything_is_sealed(
    client: Client,
) -> None:
    async with working(client) as world:
        opened = await world.publish()
        assert opened.start_at is not None
        accepted_at = opened.start_at - CLOCKS_AGREE_WITHIN  # the first instant of the window as these cells tell it
        world.cells["us"].batch = BatchExecution(accepted_at, is_open=True, status="running")
        await world.finish()
        await happens(lambda: world.cells["eu"].sealed_at is not None)
        assert shown(world).stage is S.DRAINING
        assert world.cells["us"].sealed_at is None
        world.cells["us"].batch = BatchExecution(accepted_at, is_open=False, status="terminated")
        (lost,) = (await uncertified(world)).differences
        assert (lost.cell, lost.kind, lost.row) == ("us", "batch_missing", f"batch {bytes(16).hex()}-1")
        assert world.cells["us"].sealed_at is None
        world.cells["us"].batch = None
        await certify(world)
        await world.handle.result()
        assert all(cell.sealed_at for cell in world.cells.values())
        await world.replayed("run-survey-batch-lost")


async def test_a_cell_that_is_away_at_the_end_delays_the_certificate_and_not_the_end(client: Client) -> None:
    start = datetime.now(UTC)
    async with working(client, finish_at=start + timedelta(seconds=4)) as world:
        await world.publish()
        world.cells["us"].is_away = True
        await happens(lambda: world.cells["eu"].sealed_at is not None)
        assert world.catalogue.finished == 1
        assert world.cells["us"].sealed_at is None
        world.cells["us"].is_away = False
        await world.handle.result()
        assert shown(world).certificate is not None
        await world.replayed("run-survey-cell-away-at-the-end")


async def test_a_cell_that_is_away_delays_an_end_by_hand_for_itself_only(client: Client) -> None:
    async with working(client) as world:
        eu, us = world.cells["eu"], world.cells["us"]
        await world.publish()
        us.is_away = True
        finished = await world.finish()
        assert world.catalogue.finished == 1
        assert eu.windows[-1].finish_at == world.survey.finish_at == finished.finish_at
        assert us.windows[-1].finish_at is None
        await happens(lambda: eu.sealed_at is not None)
        assert shown(world).stage is S.DRAINING
        us.is_away = False
        await world.handle.result()
        assert us.windows[-1].finish_at == finished.finish_at
        assert shown(world).certificate is not None
        assert shown(world).attempt == 1
        await world.replayed("run-survey-finished-with-a-cell-away")


async def test_a_cell_that_has_lost_the_survey_keeps_it_from_its_certificate_and_not_from_its_end(
    client: Client,
) -> None:
    async with working(client) as world:
        await world.publish()
        world.cells["us"].has_lost_it = True
        with pytest.raises(WorkflowUpdateFailedError):
            await world.handle.execute_update(RunSurveyWorkflow.set_intake, SteerIntake(actor="staff:u_x", paused=True))
        assert world.cells["eu"].intakes == [True]
        await world.finish()
        assert world.cells["eu"].windows[-1].finish_at == world.survey.finish_at
        (found,) = (await uncertified(world)).differences
        assert (found.kind, found.row, found.detail) == ("step_failed", "drain_cell", ErrorCode.SURVEY_NOT_FOUND)
        world.cells["us"].has_lost_it = False
        await certify(world)
        await world.handle.result()
        assert world.cells["us"].windows[-1].finish_at == world.survey.finish_at
        await world.replayed("run-survey-lost-in-a-cell")


@pytest.mark.parametrize("step", ["drain_cell", "seal_survey", "sign_certificate", "destroy_cell_keys"])
async def test_a_worker_killed_after_any_step_certifies_once(client: Client, step: str) -> None:
    world = World(client)
    reached, gone = asyncio.Event(), asyncio.Event()

    async def stall(name: str) -> None:
        if name == step and not gone.is_set():
            reached.set()
            await asyncio.Event().wait()

    world.after = stall
    async with asyncio.timeout(150):
        async with world.worker():
            await world.publish()
            await world.finish()
            await reached.wait()
            gone.set()
        async with world.worker():
            await world.handle.result()
    certificate = shown(world).certificate
    assert certificate is not None
    assert shown(world).attempt == 1
    for cell in world.cells.values():
        assert set(cell.certificates) == {certificate.certificate_id}
    await world.replayed()


async def test_a_run_that_is_handed_an_uncertified_survey_goes_on_with_it(client: Client) -> None:
    async with working(client) as world:
        world.differing = (Difference(kind=DifferenceKind.TOTALS_DIFFER, cell="eu", detail="x"),)
        await world.publish()
        await world.finish()
        state = await uncertified(world)
        await world.handle.terminate("its history is long, say")
        keys = world.catalogue.kept
        assert keys is not None
        handed = world.input(
            opened=OpenedSurvey(survey=world.survey, keys=keys), finished=world.survey, certification=state
        )
        await world.client.start_workflow(
            RunSurveyWorkflow.run, handed, id=run_survey_workflow_id(world.survey_id), task_queue=world.queue
        )
        world.differing = ()
        await certify(world)
        await world.handle.result()
        assert shown(world).attempt == state.attempt + 1
        assert world.catalogue.finished == 1
        await world.replayed("run-survey-certified-by-another-run")
