"""Executions that closed on a real server, and an archive of theirs alone: its table and files are real too."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import asyncpg
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.history_archive import HistoryArchiveActivities
from comitia.archive import archive_addresses
from domain.archive_ports import ArchiveCell, SealedHistory
from domain.contracts.archive import ClosedExecution, HistoryPack, PlanArchiveInput
from domain.history_packs import PackedHistory, unpack
from domain.ids import archive_histories_workflow_id
from domain.replay import Execution
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import in_flight
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from integrations.settings import Settings
from integrations.temporal.archived_histories import ArchivedHistories
from integrations.temporal.client import connect
from integrations.temporal.closed_histories import TemporalClosedHistories
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Histories
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from tests.replay_world import Pay, Traces
from workflows.archive_histories import ArchiveHistoriesWorkflow

CELL = "us"
WHOM = "somebody with a name"


class Ours:
    """Implements `ClosedHistories` for one test's executions; forgets at once, for which the server needs a minute."""

    def __init__(self, inner: TemporalClosedHistories, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix
        self.forgotten: set[str] = set()

    async def retention(self) -> timedelta:
        return await self._inner.retention()

    async def keep_for(self, retention: timedelta) -> bool:
        return await self._inner.keep_for(retention)

    async def count(self, after: datetime, until: datetime) -> int:
        return len([each async for each in self.closed(after, until)])

    async def closed(self, after: datetime, until: datetime) -> AsyncIterator[ClosedExecution]:
        async for each in self._inner.closed(after, until):
            if self._prefix in each.workflow_id:
                yield each

    async def read(self, execution: ClosedExecution) -> SealedHistory | None:
        return None if execution.workflow_id in self.forgotten else await self._inner.read(execution)


class Watch:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def looked(self, cell: str, complete_until: datetime | None, retention: timedelta) -> None:
        assert retention >= timedelta(hours=1)

    def lengthened(self, cell: str, retention: timedelta, *, done: bool) -> None:
        self.heard.append(f"{cell} kept for {retention.days} days: {done}")

    def noted(self, cell: str, archived: int, size_bytes: int) -> None:
        assert size_bytes > 0

    def left_out(self, cell: str, workflow_id: str, run_id: str, why: str) -> None:
        self.heard.append(f"{workflow_id} {why}")

    def contradicted(self, cell: str, detail: str) -> None:
        self.heard.append(detail)


class ArchiveWorld:
    """One test's executions and archive; `after` is asked when a step has had its effect, before it says so."""

    def __init__(
        self, client: Client, codec: EncryptionCodec, pool: asyncpg.Pool, folder: Path, cell: str = CELL
    ) -> None:
        self.cell = cell
        self.client, self.codec, self.pool, self.folder = client, codec, pool, folder
        self.traces = Traces(folder / "traces")
        self.token = secrets.token_hex(6)
        self.closed = Ours(TemporalClosedHistories(client), self.token)
        self.archive = PostgresArchive(pool)
        self.objects = FileObjectStore(folder / "objects")
        self.watch = Watch()
        self.after: Callable[[str], Any] = lambda _: None
        self.running: WorkflowHandle[Any, Any] | None = None
        self.server = Histories(client, codec)

    def activities(self, **options: Any) -> HistoryArchiveActivities:
        return HistoryArchiveActivities(
            {self.cell: ArchiveCell(self.closed, self.archive)},
            self.objects,
            self.watch,
            **{"settle": timedelta(0), **options},
        )

    def reading(self) -> ArchivedHistories:
        return ArchivedHistories(self.archive, self.objects, self.codec)

    async def pay(self, count: int, *, client: Client | None = None) -> list[Execution]:
        """Run some executions, and wait until they are listed as closed."""
        chosen, queue = client or self.client, f"paying-{secrets.token_hex(4)}"
        async with Worker(
            chosen,
            task_queue=queue,
            workflows=[Pay],
            activities=[self.traces.pay, self.traces.tell],
            workflow_runner=sandbox(),
        ):
            handles = [
                await chosen.start_workflow(
                    "Pay", WHOM, id=f"paid/{self.token}/{secrets.token_hex(4)}", task_queue=queue
                )
                for _ in range(count)
            ]
            await asyncio.gather(*(handle.result() for handle in handles))
        found = [Execution(handle.id, str(handle.first_execution_run_id), "Pay") for handle in handles]
        await self.listed({(each.workflow_id, each.run_id) for each in found})
        return found

    async def listed(self, runs: set[tuple[str, str]]) -> None:
        async with asyncio.timeout(20):
            while True:
                query = f"WorkflowId STARTS_WITH 'paid/{self.token}/' AND ExecutionStatus != 'Running'"
                listed = {(each.id, each.run_id) async for each in self.client.list_workflows(query)}
                if runs <= listed:
                    return
                await asyncio.sleep(0.05)

    async def forget(self, execution: Execution) -> None:
        """Have the server forget an execution, as it does after its retention."""
        of = WorkflowExecution(workflow_id=execution.workflow_id, run_id=execution.run_id)
        request = DeleteWorkflowExecutionRequest(namespace=self.client.namespace, workflow_execution=of)
        await self.client.workflow_service.delete_workflow_execution(request)
        async with asyncio.timeout(120):
            while await self.server.read_sealed(execution.workflow_id, execution.run_id) is not None:
                await asyncio.sleep(0.05)

    async def archived(self, **options: Any) -> int:
        """Archive what is there without a workflow; return how many histories."""
        activities, environment, archived = self.activities(**options), ActivityEnvironment(), 0
        plan = await environment.run(activities.plan_archive, PlanArchiveInput(cell=self.cell))
        for planned in plan.packs:
            written = await environment.run(activities.write_history_pack, planned)
            archived += (await environment.run(activities.note_history_pack, written)).archived
        return archived

    @asynccontextmanager
    async def working(self, client: Client, **options: Any) -> AsyncIterator[str]:
        queue = f"archive-{secrets.token_hex(4)}"
        async with Worker(
            client,
            task_queue=queue,
            workflows=[ArchiveHistoriesWorkflow],
            activities=[self._hooked(function) for function in self.activities(**options).all()],
            workflow_runner=sandbox(),
            max_cached_workflows=0,
        ):
            yield queue

    def workflow_id(self, n: str) -> str:
        return archive_histories_workflow_id(self.cell, f"{self.token}-{n}")

    def _hooked(self, function: Any) -> Any:
        @wraps(function)
        async def hooked(request: Any) -> Any:
            result = await function(request)
            if asyncio.iscoroutine(wanted := self.after(function.__name__)):
                await wanted
            return result

        return hooked

    def files(self) -> dict[str, list[PackedHistory]]:
        """Return what is in the store, by name."""
        root = self.folder / "objects"
        return {str(path.relative_to(root)): unpack(path.read_bytes()) for path in sorted(root.rglob("*.pack"))}

    async def check_whole(self, executions: Sequence[Execution]) -> None:
        """Check that every one of these is in one file, noted there, and as the server has it; and nothing else."""
        expected = {(each.workflow_id, each.run_id) for each in executions}
        kept = [(history.run, name, history.events) for name, file in self.files().items() for history in file]
        assert sorted(run for run, _, _ in kept) == sorted(expected)
        rows = await self.pool.fetch(
            "SELECT workflow_id, run_id, object FROM audit.archived_history WHERE position($1 IN workflow_id) > 0",
            self.token,
        )
        noted = {(row["workflow_id"], row["run_id"]): row["object"] for row in rows if row["object"] is not None}
        assert noted == {run: name for run, name, _ in kept}
        for execution in executions:
            ours = await self.reading().read(execution.workflow_id, execution.run_id)
            theirs = await self.server.read(execution.workflow_id, execution.run_id)
            assert ours is not None
            assert theirs is not None
            assert list(ours.events) == list(theirs.events)


@asynccontextmanager
async def open_archive_world(
    settings_for: SettingsFor, pool: asyncpg.Pool, folder: Path, cell: str = CELL
) -> AsyncIterator[ArchiveWorld]:
    """Open a world with keys of its own, in a cell or on the platform."""
    codec = EncryptionCodec(FileKms(folder / "keys", frozenset({"in-flight"})), in_flight(cell))
    client = await connect(archive_addresses(settings_for(), cell)[1], codec)
    yield ArchiveWorld(client, codec, pool, folder, cell)


async def archive_closed(
    settings: Settings, client: Client, cell: str, folder: Path, executions: Sequence[Execution]
) -> Path:
    """Archive executions of others that are over, as `workers/audit` does; return the file that has them all."""
    now, pool = datetime.now(UTC), await open_pool(settings.cells[cell].database, settings, AUDIT)
    closed = tuple(
        ClosedExecution(
            workflow_id=each.workflow_id,
            run_id=each.run_id,
            workflow_type=each.workflow_type,
            started_at=now,
            closed_at=now,
        )
        for each in executions
    )
    of = {cell: ArchiveCell(TemporalClosedHistories(client), PostgresArchive(pool))}
    archiving, environment = HistoryArchiveActivities(of, FileObjectStore(folder), Watch()), ActivityEnvironment()
    written = await environment.run(archiving.write_history_pack, HistoryPack(cell=cell, executions=closed))
    assert (await environment.run(archiving.note_history_pack, written)).archived == len(executions)
    await pool.close()
    assert written.stored is not None
    return folder / written.stored.name


def flip(path: Path, at: bytes) -> None:
    """Change one byte of a file, where something of it begins."""
    content = bytearray(path.read_bytes())
    place = content.index(at)
    content[place] ^= 1
    path.write_bytes(content)
