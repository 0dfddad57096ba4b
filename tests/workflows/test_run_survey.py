"""The life of a survey over the real Temporal: whatever is killed or away, it opens everywhere or nowhere."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkerDeploymentVersion, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker, WorkerDeploymentConfig

from activities.surveys import SurveyActivities
from domain.contracts.surveys import (
    AnnounceSurveyInput,
    CorrectSurveyInput,
    FinishSurvey,
    FinishSurveyInput,
    FreezeSurveyInput,
    InstallSurveyInput,
    OpenedSurvey,
    OpenSurveyInput,
    RunSurveyInput,
    Survey,
    SurveyChanged,
    SurveyKeys,
    SurveyStage,
    SurveyWindow,
)
from domain.errors import DomainError, ErrorCode
from domain.ids import new_survey_id, run_survey_workflow_id
from domain.ports import DataKey
from domain.survey_drafts import CatalogueEntry, OptionDraft, QuestionDraft, SurveyDraft, new_entry
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from workflows.run_survey import RunSurveyWorkflow

CELLS = ("eu", "us")
HISTORIES = Path(__file__).parent.parent / "replay" / "histories"
RECORD = "COMITIA_RECORD_HISTORIES"  # set, the histories made here replace the stored ones

Hook = Callable[[str], Any]


class Catalogue:
    """The catalogue's promises, in memory."""

    def __init__(self, entry: CatalogueEntry) -> None:
        self.entry = entry
        self.kept: SurveyKeys | None = None
        self.frozen = 0
        self.finished = 0

    async def freeze(self, request: FreezeSurveyInput) -> CatalogueEntry:
        if self.entry.stage is SurveyStage.DRAFT:
            if request.expected_version not in (None, self.entry.survey.version):
                raise DomainError(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")
            self.frozen += 1
            self._next(SurveyStage.PUBLISHING)
        return self.entry

    async def keys(self, survey_id: str) -> SurveyKeys | None:
        assert survey_id == self.entry.survey.id
        return self.kept

    async def keep_keys(self, keys: SurveyKeys) -> SurveyKeys:
        self.kept = self.kept or keys
        return self.kept

    async def open(self, request: OpenSurveyInput) -> CatalogueEntry:
        if self.entry.stage is SurveyStage.PUBLISHING:
            self._next(SurveyStage.PUBLISHED, start_at=request.start_at, finish_at=request.finish_at)
        return self.entry

    async def finish(self, request: FinishSurveyInput) -> CatalogueEntry:
        if self.entry.stage is SurveyStage.PUBLISHED:
            self.finished += 1
            self._next(SurveyStage.FINISHED, start_at=request.start_at, finish_at=request.finish_at)
        return self.entry

    async def correct(self, request: CorrectSurveyInput) -> CatalogueEntry:
        if request.expected_version == self.entry.survey.version:
            self.entry = replace(self.entry, survey=request.survey)
        elif request.survey != self.entry.survey:
            raise DomainError(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")
        return self.entry

    def _next(self, stage: SurveyStage, **update: Any) -> None:
        survey = self.entry.survey
        update["version"] = survey.version + 1
        self.entry = replace(self.entry, stage=stage, survey=survey.model_copy(update=update))


class Keys:
    """Makes keys that can be told apart."""

    async def generate_data_key(self, purpose: str, context: str) -> DataKey:
        return DataKey(b"plain", f"{purpose} {context} {secrets.token_hex(4)}".encode())


class Cell:
    """A cell's copy, which holds nothing back: what is written twice shows."""

    def __init__(self) -> None:
        self.installed: list[InstallSurveyInput] = []
        self.windows: list[SurveyWindow] = []
        self.is_away = False

    async def install(self, request: InstallSurveyInput) -> None:
        self._refuse()
        self.installed.append(request)

    async def set_window(self, window: SurveyWindow) -> None:
        self._refuse()
        assert self.installed, "a window for what is not there"
        self.windows.append(window)

    def _refuse(self) -> None:
        if self.is_away:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "away")


class World:
    """Everything outside, and a hook that is asked after every effect and before it is reported."""

    def __init__(self, client: Client, **draft: Any) -> None:
        question = QuestionDraft("What?", 1, 1, (OptionDraft("Soup"), OptionDraft("Salad")))
        self.survey_id = new_survey_id()
        self.catalogue = Catalogue(new_entry(self.survey_id, SurveyDraft("Lunch", (question,), **draft)))
        self.cells = {cell: Cell() for cell in CELLS}
        self.told: list[AnnounceSurveyInput] = []
        self.client = client
        self.queue = f"surveys-{secrets.token_hex(4)}"
        self.after: Hook | None = None

    async def announce(self, request: AnnounceSurveyInput) -> None:
        self.told.append(request)

    @property
    def handle(self) -> WorkflowHandle[RunSurveyWorkflow, SurveyChanged]:
        return self.client.get_workflow_handle_for(RunSurveyWorkflow.run, run_survey_workflow_id(self.survey_id))

    @property
    def survey(self) -> Survey:
        return self.catalogue.entry.survey

    def worker(self) -> Worker:
        activities: Any = SurveyActivities(
            self.catalogue,  # type: ignore[arg-type]
            Keys(),  # type: ignore[arg-type]
            self.cells,  # type: ignore[arg-type]
            self,
        )
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[RunSurveyWorkflow],
            activities=[self._hooked(function) for function in activities.all()],
            workflow_runner=sandbox(),
            max_cached_workflows=0,
            deployment_config=WorkerDeploymentConfig(
                WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False
            ),
        )

    def _hooked(self, function: Any) -> Any:
        @wraps(function)
        async def hooked(request: Any) -> Any:
            result = await function(request)
            if self.after is not None:
                await self.after(function.__name__)
            return result

        return hooked

    async def publish(self, expected_version: int | None = None) -> SurveyChanged:
        start = WithStartWorkflowOperation(
            RunSurveyWorkflow.run,
            RunSurveyInput(survey_id=self.survey_id, cells=CELLS, actor="staff:u_x", expected_version=expected_version),
            id=run_survey_workflow_id(self.survey_id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        )
        return await self.client.execute_update_with_start_workflow(
            RunSurveyWorkflow.publish, start_workflow_operation=start
        )

    async def finish(self, expected_version: int | None = None) -> SurveyChanged:
        request = FinishSurvey(actor="staff:u_x", expected_version=expected_version)
        return await self.handle.execute_update(RunSurveyWorkflow.finish, request, id="finish")

    async def correct(self, title: str, **update: Any) -> SurveyChanged:
        survey = self.survey
        corrected = survey.model_copy(update={"title": title, "version": survey.version + 1})
        request = CorrectSurveyInput(survey=corrected, actor="staff:u_x", expected_version=survey.version, **update)
        return await self.handle.execute_update(RunSurveyWorkflow.correct, request)

    async def replayed(self, name: str = "") -> None:
        """Replay what happened; keep it as a stored history where that was asked for."""
        history = await self.handle.fetch_history()
        replayer = Replayer(
            workflows=[RunSurveyWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
        )
        await replayer.replay_workflow(history)
        if name and os.environ.get(RECORD):
            events = _without_traces(json.loads(history.to_json()))
            HISTORIES.mkdir(exist_ok=True)
            (HISTORIES / f"{name}.json").write_text(json.dumps(events, indent=1, sort_keys=True) + "\n")


def _without_traces(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_traces(item) for name, item in value.items() if name != "stackTrace"}
    return [_without_traces(item) for item in value] if isinstance(value, list) else value


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(settings_for: SettingsFor) -> Client:
    address = settings_for().platform_temporal
    assert address is not None
    return await Client.connect(
        f"{address.host}:{address.port}",
        namespace=address.namespace,
        data_converter=pydantic_data_converter,
        identity="tests",
    )


@asynccontextmanager
async def working(client: Client, **draft: Any) -> AsyncIterator[World]:
    world = World(client, **draft)
    async with asyncio.timeout(60):
        async with world.worker():
            yield world


async def happens(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not check():
            await asyncio.sleep(0.02)


def everywhere(world: World, start_at: datetime | None, finish_at: datetime | None) -> None:
    for cell in world.cells.values():
        assert cell.windows[-1].start_at == start_at
        assert cell.windows[-1].finish_at == finish_at


async def test_published_corrected_finished(client: Client):
    async with working(client) as world:
        opened = await world.publish()
        assert opened.stage is SurveyStage.PUBLISHED
        everywhere(world, opened.start_at, None)
        assert (await world.publish()) == opened
        await world.correct("Luncheon")
        await happens(lambda: all(cell.installed[-1].survey.title == "Luncheon" for cell in world.cells.values()))
        assert await world.handle.query(RunSurveyWorkflow.stage) is SurveyStage.PUBLISHED
        finished = await world.finish()
        everywhere(world, opened.start_at, finished.finish_at)
        assert await world.handle.result() == finished
        assert world.survey.finish_at == finished.finish_at
        assert {(told.cell, told.change.stage) for told in world.told} == {
            (cell, stage) for cell in CELLS for stage in (SurveyStage.PUBLISHED, SurveyStage.FINISHED)
        }
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
async def test_a_worker_killed_after_any_step_changes_nothing(client: Client, step: str):
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
    async with asyncio.timeout(60):
        async with world.worker():
            life = asyncio.create_task(live())
            await reached.wait()
            gone.set()
        async with world.worker():
            finished = await life
            assert await world.handle.result() == finished
    assert (world.catalogue.frozen, world.catalogue.finished) == (1, 1)
    assert world.catalogue.kept is not None
    for cell in world.cells.values():
        assert {request.wrapped_ballot_key for request in cell.installed} == {world.catalogue.kept.wrapped_ballot_key}
        assert {window.start_at for window in cell.windows} == {world.survey.start_at}
        assert cell.windows[-1].finish_at == world.survey.finish_at
        assert max(request.survey.version for request in cell.installed) == finished.version - 1
    await world.replayed()


async def test_nothing_opens_before_every_cell_has_it(client: Client):
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
        await world.handle.result()
        await world.replayed("run-survey-cell-away")


async def test_an_end_asked_for_before_the_opening_comes_right_after_it(client: Client):
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
        await world.handle.result()
        await world.replayed("run-survey-ended-while-publishing")


async def test_a_draft_that_cannot_be_frozen_ends_the_process_and_can_be_tried_again(client: Client):
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


async def test_finishing_wants_the_version_that_was_seen(client: Client):
    async with working(client) as world:
        opened = await world.publish()
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await world.finish(expected_version=opened.version - 1)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.PRECONDITION_FAILED
        assert not any(cell.windows[-1].finish_at for cell in world.cells.values())
        assert (await world.finish(expected_version=opened.version)).stage is SurveyStage.FINISHED
        await world.handle.result()


async def test_a_schedule_opens_and_closes_by_itself(client: Client):
    start = datetime.now(UTC) + timedelta(seconds=1)
    finish = start + timedelta(seconds=1)
    async with working(client, start_at=start, finish_at=finish) as world:
        opened = await world.publish()
        assert (opened.start_at, opened.finish_at) == (start, finish)
        everywhere(world, start, finish)
        assert (await world.handle.result()).finish_at == finish
        assert datetime.now(UTC) >= finish
        assert all(len(cell.windows) == 1 for cell in world.cells.values())
        await world.replayed("run-survey-scheduled")


async def test_an_end_that_passed_while_a_cell_was_away_leaves_an_empty_window(client: Client):
    finish = datetime.now(UTC) + timedelta(seconds=1)
    async with working(client, finish_at=finish) as world:
        world.cells["us"].is_away = True
        publication = asyncio.create_task(world.publish())
        await happens(lambda: datetime.now(UTC) > finish)
        world.cells["us"].is_away = False
        opened = await publication
        assert opened.start_at == opened.finish_at
        everywhere(world, opened.start_at, opened.start_at)
        await world.handle.result()


async def test_a_run_that_is_handed_an_open_survey_goes_on_with_it(client: Client):
    async with working(client) as world:
        opened = await world.publish()
        await world.handle.terminate("its history is long, say")
        keys = world.catalogue.kept
        assert keys is not None
        handed = RunSurveyInput(
            survey_id=world.survey_id,
            cells=CELLS,
            actor="staff:u_x",
            opened=OpenedSurvey(survey=world.survey, keys=keys),
        )
        await world.client.start_workflow(
            RunSurveyWorkflow.run, handed, id=run_survey_workflow_id(world.survey_id), task_queue=world.queue
        )
        assert (await world.correct("Luncheon")).version == opened.version + 1
        finished = await world.finish()
        assert finished.start_at == opened.start_at
        assert world.catalogue.frozen == 1
        await world.handle.result()
        assert all(cell.installed[-1].survey.title == "Luncheon" for cell in world.cells.values())
        await world.replayed("run-survey-continued")
