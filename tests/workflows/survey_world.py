"""Everything around `RunSurvey` that a test can hold up, cut off or make differ; the Temporal is real."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

import pytest_asyncio
from temporalio import activity
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowHandle,
)
from temporalio.common import WorkerDeploymentVersion, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker, WorkerDeploymentConfig

from activities.certification import CertificationActivities
from activities.closing import ClosingActivities
from activities.draining import ClosingCell, DrainActivities
from activities.steering import SteeringActivities
from activities.surveys import SurveyActivities
from domain.contracts.reconciliation import (
    CellChecked,
    Difference,
    ReconcileSurveyInput,
    ReconciliationReport,
)
from domain.contracts.survey_runs import RunSurveyInput
from domain.contracts.surveys import (
    AnnounceSurveyInput,
    CorrectSurveyInput,
    FinishSurvey,
    Survey,
    SurveyChanged,
)
from domain.ids import new_survey_id, run_survey_workflow_id
from domain.survey_drafts import OptionDraft, QuestionDraft, SurveyDraft, new_entry
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from tests.workflows.reconciled import ReconcileSurvey
from tests.workflows.stored import HISTORIES, RECORD, without_traces
from tests.workflows.survey_ports import Catalogue, Cell, Certifications, Keys, Objects, Recounter, Signer
from workflows.run_survey import RunSurveyWorkflow

CELLS = ("eu", "us")
Hook = Callable[[str], Any]


class World:
    """Everything outside, and a hook that is asked after every effect and before it is reported."""

    def __init__(self, client: Client, *, retention: timedelta = timedelta(0), **draft: Any) -> None:
        question = QuestionDraft("What?", 1, 1, (OptionDraft("Soup"), OptionDraft("Salad")))
        self.survey_id = new_survey_id()
        self.catalogue = Catalogue(new_entry(self.survey_id, SurveyDraft("Lunch", (question,), **draft)))
        self.cells = {cell: Cell(cell) for cell in CELLS}
        self.certifications = Certifications()
        self.recounter = Recounter(self.cells)
        self.objects = Objects()
        self.retention = retention
        self.reconciled: list[ReconcileSurveyInput] = []
        self.differing: tuple[Difference, ...] = ()
        self.unreached: tuple[str, ...] = ()
        self.unchecked = ""  # the cell that reconciliation says nothing about
        self.unseen = 0  # ballots that reconciliation has not seen
        self.told: list[AnnounceSurveyInput] = []
        self.client = client
        self.queue = f"surveys-{secrets.token_hex(4)}"
        self.after: Hook | None = None

    async def announce(self, request: AnnounceSurveyInput) -> None:
        self.told.append(request)

    @activity.defn(name="reconciled")
    async def reconcile(self, request: ReconcileSurveyInput) -> ReconciliationReport:
        self.reconciled.append(request)
        checked = [
            CellChecked(cell=cell, participations=found, ballots=found - self.unseen, batches=found)
            for cell, found in ((cell, self.cells[cell].ballots) for cell in request.cells)
            if cell != self.unchecked
        ]
        return ReconciliationReport(
            survey_id=request.survey_id,
            complete=True,
            checked=tuple(checked),
            differences=self.differing,
            unreached=self.unreached,
        )

    @property
    def handle(self) -> WorkflowHandle[RunSurveyWorkflow, SurveyChanged]:
        return self.client.get_workflow_handle_for(RunSurveyWorkflow.run, run_survey_workflow_id(self.survey_id))

    @property
    def survey(self) -> Survey:
        return self.catalogue.entry.survey

    def worker(self, *, cached: int = 0) -> Worker:
        """Return a worker that replays every task, unless it may keep executions."""
        cells: Any = self.cells
        catalogue: Any = self.catalogue
        certifications: Any = self.certifications
        closing = {name: ClosingCell(cell, cell) for name, cell in self.cells.items()}
        certifying = CertificationActivities(
            self.recounter, Signer(), self.objects, build="tests", retention=self.retention
        )
        keys: Any = Keys()
        activities = [
            *SurveyActivities(catalogue, keys, cells, self).all(),
            *SteeringActivities(catalogue, cells).all(),
            *ClosingActivities(certifications, cells).all(),
            *DrainActivities(closing).all(),
            *certifying.all(),
            self.reconcile,
        ]
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[RunSurveyWorkflow, ReconcileSurvey],
            activities=[self._hooked(function) for function in activities],
            workflow_runner=sandbox(),
            max_cached_workflows=cached,
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

    def input(self, **fields: Any) -> RunSurveyInput:
        return RunSurveyInput(
            survey_id=self.survey_id,
            cells=CELLS,
            actor="staff:u_x",
            certification_queue=self.queue,
            reconciliation_queue=self.queue,
            **fields,
        )

    async def publish(self, expected_version: int | None = None) -> SurveyChanged:
        start = WithStartWorkflowOperation(
            RunSurveyWorkflow.run,
            self.input(expected_version=expected_version),
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
        """Replay what happened; keep it as a stored history where that was asked for and there is none of this name.

        What is stored stays as it is: such an execution may be open.
        """
        history = await self.handle.fetch_history()
        replayer = Replayer(
            workflows=[RunSurveyWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
        )
        await replayer.replay_workflow(history)
        if name and os.environ.get(RECORD) and not (HISTORIES / f"{name}.json").exists():
            events = without_traces(json.loads(history.to_json()))
            HISTORIES.mkdir(exist_ok=True)
            (HISTORIES / f"{name}.json").write_text(json.dumps(events, indent=1, sort_keys=True) + "\n")


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
async def working(client: Client, *, cached: int = 50, **draft: Any) -> AsyncIterator[World]:
    world = World(client, **draft)
    async with asyncio.timeout(120):
        async with world.worker(cached=cached):
            yield world


async def happens(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.02)


def everywhere(world: World, start_at: datetime | None, finish_at: datetime | None) -> None:
    for cell in world.cells.values():
        assert cell.windows[-1].start_at == start_at
        assert cell.windows[-1].finish_at == finish_at
