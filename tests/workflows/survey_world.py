"""Everything around `RunSurvey` that a test can hold up, cut off or make differ; the Temporal is real."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from hashlib import sha256
from pathlib import Path
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
from domain.contracts.certification import (
    CellRecount,
    CertificationDifference,
    CertificationState,
    DestroySurveyKeysInput,
    InstallCertificateInput,
    PublishBallotsInput,
    PublishedBallots,
    RecountCellInput,
    RecountProgress,
    SealedCell,
)
from domain.contracts.exports import StoredObject
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
    ExtendSurveyInput,
    FinishSurvey,
    FinishSurveyInput,
    FreezeSurveyInput,
    InstallSurveyInput,
    OpenSurveyInput,
    Survey,
    SurveyChanged,
    SurveyIntake,
    SurveyKeys,
    SurveyStage,
    SurveyWindow,
)
from domain.draining import CLOCKS_AGREE_WITHIN, BatchExecution, ClosingWindow, GatewayRows
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId, new_survey_id, run_survey_workflow_id
from domain.merkle import EMPTY_ROOT
from domain.ports import DataKey
from domain.survey_drafts import CatalogueEntry, OptionDraft, QuestionDraft, SurveyDraft, new_entry
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from tests.workflows.reconciled import ReconcileSurvey
from workflows.run_survey import RunSurveyWorkflow

CELLS = ("eu", "us")
HISTORIES = Path(__file__).parent.parent / "replay" / "histories"
RECORD = "COMITIA_RECORD_HISTORIES"  # set, the histories made here that are not stored yet are

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

    async def set_intake(self, request: SurveyIntake) -> CatalogueEntry:
        if self.entry.is_paused != request.paused:
            self.entry = replace(self.entry, is_paused=request.paused)
            self._next(self.entry.stage)
        return self.entry

    async def extend(self, request: ExtendSurveyInput) -> CatalogueEntry:
        if self.entry.survey.finish_at != request.finish_at:
            self._next(self.entry.stage, finish_at=request.finish_at)
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

    def __init__(self, name: str) -> None:
        self.name = name
        self.installed: list[InstallSurveyInput] = []
        self.windows: list[SurveyWindow] = []
        self.intakes: list[bool] = []
        self.sealed_at: datetime | None = None
        self.certificates: list[str] = []
        self.has_keys = True
        self.is_away = False
        self.has_lost_it = False  # restored from before the survey was published, say
        self.batch: BatchExecution | None = None  # number 1 of the cell's gateway, which has no row
        self.ballots = 0

    async def install(self, request: InstallSurveyInput) -> None:
        self._refuse()
        self.installed.append(request)

    async def set_window(self, window: SurveyWindow) -> None:
        self._refuse()
        assert self.installed, "a window for what is not there"
        self.windows.append(window)

    async def set_intake(self, request: SurveyIntake) -> None:
        self._refuse()
        self.intakes.append(request.paused)

    async def window(self, survey_id: str) -> ClosingWindow:
        self._refuse()
        last = self.windows[-1]
        # what follows an end is not what these tests wait for: the cell's clock is ahead
        return ClosingWindow(last.start_at, last.finish_at, datetime.now(UTC) + CLOCKS_AGREE_WITHIN)

    async def gateways(self, window: ClosingWindow) -> tuple[GatewayRows, ...]:
        assert window.has_passed
        return (GatewayRows(bytes(16), 1, 0),)

    async def is_recorded(self, batch: BatchId) -> bool:
        assert batch.number == 1
        return False

    async def describe(self, batch: BatchId) -> BatchExecution | None:
        return self.batch if batch.number == 1 else None

    async def seal(self, survey_id: str) -> SealedCell:
        self._refuse()
        finish_at = self.windows[-1].finish_at
        assert finish_at is not None
        self.sealed_at = self.sealed_at or datetime.now(UTC)
        return SealedCell(cell=self.name, closed_at=finish_at, sealed_at=self.sealed_at)

    async def install_certificate(self, request: InstallCertificateInput) -> None:
        self._refuse()
        self.certificates.append(request.certificate_id)

    async def destroy_keys(self, survey_id: str) -> None:
        self._refuse()
        self.has_keys = False

    def _refuse(self) -> None:
        if self.is_away:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "away")
        if self.has_lost_it:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND, "lost")


class Certifications:
    """The catalogue's promises about certification, in memory."""

    def __init__(self) -> None:
        self.states: list[CertificationState] = []
        self.asked: list[str] = []
        self.are_keys_destroyed = False

    async def note(self, state: CertificationState, actor: str = "") -> None:
        if not self.states or self.states[-1].revision < state.revision:
            self.states.append(state)
            self.asked += [actor] if actor else []

    async def destroy_keys(self, request: DestroySurveyKeysInput) -> None:
        certificate = self.states[-1].certificate
        if certificate is None or certificate.retained_until > request.at:
            raise DomainError(ErrorCode.SURVEY_NOT_CERTIFIED)
        self.are_keys_destroyed = True


class Objects:
    """An object store: of a name the first file stays."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        content = self.files.setdefault(name, b"".join([piece async for piece in pieces]))
        return StoredObject(name=name, size_bytes=len(content), sha256=sha256(content).digest())

    async def read(self, name: str) -> AsyncIterator[bytes]:
        yield self.files[name]


class Signer:
    async def sign(self, message: bytes) -> tuple[str, bytes]:
        assert message
        return "certificate/2026-01-02/1", bytes(64)


class Recounter:
    """Counts what the cells of the world say that they have; a test may make it differ."""

    def __init__(self, cells: dict[str, Cell]) -> None:
        self._cells = cells
        self.differences: tuple[CertificationDifference, ...] = ()

    async def recount(self, request: RecountCellInput, progress: RecountProgress, keep: Any) -> CellRecount:
        keep(progress)
        ballots = self._cells[request.cell].ballots
        differences = tuple(found for found in self.differences if found.cell == request.cell)
        return CellRecount(
            cell=request.cell,
            participations=ballots,
            ballots=ballots,
            batches=ballots,
            participations_root=bytes(32),
            ballots_root=bytes(32),
            batches_root=bytes(32),
            differences=differences,
        )

    async def publish(self, request: PublishBallotsInput, beat: Any) -> PublishedBallots:
        beat()
        return PublishedBallots(files=(), ballots=request.ballots, root=EMPTY_ROOT)


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


def without_traces(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_traces(item) for name, item in value.items() if name != "stackTrace"}
    return [without_traces(item) for item in value] if isinstance(value, list) else value


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
