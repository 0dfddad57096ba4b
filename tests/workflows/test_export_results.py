"""An export over the real Temporal: one file and one note, whatever is killed or away."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer, Worker, WorkerDeploymentConfig

from activities.exports import ExportActivities
from domain.contracts.exports import CancelledExport, ExportFile, ExportFormat, ExportRequest, ExportState
from domain.contracts.work import CancelWork
from domain.errors import DomainError, ErrorCode
from domain.ids import export_results_workflow_id, new_export_id, new_survey_id
from domain.survey_drafts import CatalogueEntry, OptionDraft, QuestionDraft, SurveyDraft, new_entry
from domain.tally import BALLOTS, MergedTotals
from integrations.objects.file_store import FileObjectStore
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from workflows.export_results import ExportResultsWorkflow

HISTORIES = Path(__file__).parent.parent / "replay" / "histories"
RECORD = "COMITIA_RECORD_HISTORIES"  # set, the histories made here replace the stored ones
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = ["register_export", "write_export", "complete_export"]


class World:
    """Everything outside: catalogue, tally and a real folder."""

    def __init__(self, client: Client, folder: Path) -> None:
        question = QuestionDraft("What?", 1, 1, (OptionDraft("Soup"), OptionDraft("Salad")))
        self.survey_id, self.export_id = new_survey_id(), new_export_id()
        self.entry: CatalogueEntry | None = new_entry(self.survey_id, SurveyDraft("Lunch", (question,)))
        self.votes = 1
        self.registered: set[str] = set()
        self.completed: list[ExportFile] = []
        self.cancelled: list[CancelledExport] = []
        self.failures: list[DomainError] = []
        self.client = client
        self.folder = folder
        self.queue = f"exports-{secrets.token_hex(4)}"
        self.stalled_step = ""
        self.reached = asyncio.Event()

    async def get(self, survey_id: str) -> CatalogueEntry | None:
        assert survey_id == self.survey_id
        return self.entry

    async def register(self, request: ExportRequest) -> None:
        self.registered.add(request.export_id)

    async def complete(self, file: ExportFile) -> None:
        self.completed.append(file)

    async def cancel(self, cancelled: CancelledExport) -> None:
        self.cancelled.append(cancelled)

    async def find(self, survey_id: str, export_id: str) -> ExportState | None:
        request = ExportRequest(survey_id=survey_id, export_id=export_id, actor="staff:u_x")
        return ExportState(request=request, requested_at=FIRST, cancelled_at=FIRST if self.cancelled else None)

    async def totals(self, _survey_id: str) -> MergedTotals:
        if self.failures:
            raise self.failures.pop(0)
        self.votes += 1  # the tally moves on between two tries
        return MergedTotals(
            positions={},
            counts={("UK", BALLOTS): self.votes, ("UK", "1"): self.votes},
            as_of=FIRST + timedelta(seconds=self.votes),
        )

    def activities(self) -> ExportActivities:
        return ExportActivities(self, self, self, FileObjectStore(self.folder))  # type: ignore[arg-type]

    def worker(self) -> Worker:
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[ExportResultsWorkflow],
            activities=[self._stalling(function) for function in self.activities().all()],
            workflow_runner=sandbox(),
            max_cached_workflows=0,
            deployment_config=WorkerDeploymentConfig(
                WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False
            ),
        )

    def _stalling(self, function: Any) -> Any:
        @wraps(function)
        async def stalling(request: Any) -> Any:
            result = await function(request)
            if self.stalled_step == function.__name__:
                self.stalled_step = ""
                self.reached.set()
                await asyncio.Event().wait()  # the effect is there, and nobody will ever report it
            return result

        return stalling

    async def start(self) -> WorkflowHandle[ExportResultsWorkflow, ExportFile | None]:
        request = ExportRequest(
            survey_id=self.survey_id, export_id=self.export_id, actor="staff:u_x", format=ExportFormat.CSV
        )
        return await self.client.start_workflow(
            ExportResultsWorkflow.run,
            request,
            id=export_results_workflow_id(self.survey_id, self.export_id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    def stored(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in self.folder.rglob("*.csv")]


async def replayed(handle: WorkflowHandle[Any, Any], name: str = "") -> None:
    """Replay what happened; keep it as a stored history where that was asked for."""
    history = await handle.fetch_history()
    replayer = Replayer(
        workflows=[ExportResultsWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
    )
    await replayer.replay_workflow(history)
    if name and os.environ.get(RECORD):
        kept = json.loads(history.to_json(), object_hook=_without_traces)
        (HISTORIES / f"{name}.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _without_traces(value: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != "stackTrace"}


@pytest_asyncio.fixture(loop_scope="session")
async def world(settings_for: SettingsFor, tmp_path: Path) -> AsyncIterator[World]:
    address = settings_for().platform_temporal
    assert address is not None
    client = await Client.connect(
        f"{address.host}:{address.port}",
        namespace=address.namespace,
        data_converter=pydantic_data_converter,
        identity="tests",
    )
    async with asyncio.timeout(60):
        yield World(client, tmp_path)


async def test_an_outage_of_the_tally_is_waited_out(world: World) -> None:
    world.failures = [DomainError(ErrorCode.TALLY_UNAVAILABLE)]
    async with world.worker():
        handle = await world.start()
        file = await handle.result()
        assert file is not None
        assert world.completed == [file]
        assert file.stored.name == f"exports/{world.survey_id}/{world.export_id}.csv"
        await replayed(handle, "export-results-finished")


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_killed_after_any_step_leaves_one_file(world: World, step: str) -> None:
    world.stalled_step = step
    async with world.worker():
        handle = await world.start()
        await world.reached.wait()
    async with world.worker():
        file = await handle.result()
        assert file is not None
    (content,) = world.files()
    assert len(content) == file.stored.size_bytes
    assert b'"UK","2",' in content  # the totals of the first try, and their instant, whichever try wrote the file
    assert file.as_of == FIRST + timedelta(seconds=2)
    assert world.registered == {world.export_id}
    assert set(world.completed) == {file}
    await replayed(handle)


async def test_an_export_of_nothing_fails_for_good(world: World) -> None:
    world.entry = None
    async with world.worker():
        handle = await world.start()
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
        assert isinstance(failed.value.cause, ActivityError)
        assert isinstance(failed.value.cause.cause, ApplicationError)
        assert failed.value.cause.cause.type == ErrorCode.SURVEY_NOT_FOUND
        assert world.files() == []
        await replayed(handle, "export-results-survey-missing")


ADMIN = CancelWork(actor="staff:u_x", role="admin")


async def test_an_export_that_waits_for_an_outage_is_cancelled(world: World) -> None:
    world.failures = [DomainError(ErrorCode.TALLY_UNAVAILABLE)] * 1000
    async with world.worker():
        handle = await world.start()
        while len(world.failures) == 1000:
            await asyncio.sleep(0.02)
        await asyncio.gather(*(handle.execute_update(ExportResultsWorkflow.cancel, ADMIN) for _ in range(2)))
        assert await handle.result() is None
        (noted,) = world.cancelled
        assert (noted.export_id, noted.actor, noted.role) == (world.export_id, "staff:u_x", "admin")
        assert (world.completed, world.files()) == ([], [])
        await replayed(handle, "export-results-cancelled")


async def test_nothing_stays_of_an_export_that_is_cancelled_once_its_file_is_stored(world: World) -> None:
    world.stalled_step = "write_export"
    async with world.worker():
        handle = await world.start()
        await world.reached.wait()
        assert len(world.stored()) == 2
        await handle.execute_update(ExportResultsWorkflow.cancel, ADMIN)
        assert await handle.result() is None
        assert world.stored() == []
        late = ExportRequest(survey_id=world.survey_id, export_id=world.export_id, actor="staff:u_x")
        await ActivityEnvironment().run(world.activities().write_export, late)  # a worker that comes too late
        assert world.stored() == []
        await replayed(handle)


async def test_an_export_whose_file_is_written_is_not_cancelled(world: World) -> None:
    world.stalled_step = "complete_export"
    async with world.worker():
        handle = await world.start()
        await world.reached.wait()
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(ExportResultsWorkflow.cancel, ADMIN)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.WORK_ENDED
    async with world.worker():
        assert await handle.result() == world.completed[-1]
    assert world.cancelled == []
