"""`comitia archive`, and `comitia replay --from-archive`, as compliance uses them."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from structlog.testing import capture_logs
from temporalio.client import Client
from typer.testing import CliRunner

from comitia.archive import ArchiveStatus, archive_addresses, status_of
from comitia.cli import app
from comitia.stack.state import StackState
from domain.archive_ports import PLATFORM_ARCHIVE, ArchiveCounts
from domain.audit import CATALOGUE_LOG
from domain.contracts.archive import ArchiveHistoriesInput
from domain.history_packs import READABLE
from domain.replay import Execution
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from integrations.settings import Environment, Settings
from integrations.telemetry.archive_metrics import ArchiveMetrics
from integrations.temporal.closed_histories import never_archived
from tests.archive_world import CELL, ArchiveWorld, flip, open_archive_world
from tests.conftest import SettingsFor
from workflows.archive_histories import ArchiveHistoriesWorkflow

NOW = datetime(2026, 5, 7, tzinfo=UTC)


@pytest.fixture
def cell() -> str:
    return CELL


@pytest_asyncio.fixture
async def world(
    servers: StackState, settings_for: SettingsFor, tmp_path: Path, cell: str
) -> AsyncIterator[ArchiveWorld]:
    """A world whose folder is that of a stack: these servers, keys and objects of its own."""
    servers.model_copy(update={"folder": tmp_path, "supervisor_pid": 1}).write()
    settings = settings_for(AUDIT)
    pool: asyncpg.Pool = await open_pool(archive_addresses(settings, cell)[0], settings, AUDIT)
    async with open_archive_world(settings_for, pool, tmp_path, cell) as opened:
        yield opened
    await pool.close()


async def command(world: ArchiveWorld, *arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--data", str(world.folder)])
    return result.exit_code, result.stdout


@pytest.mark.parametrize(
    ("cell", "is_forgotten"),
    [(CELL, False), (PLATFORM_ARCHIVE, False), pytest.param(CELL, True, marks=pytest.mark.long)],  # that takes a minute
)
async def test_a_process_is_archived_and_replayed_from_there(
    world: ArchiveWorld, cell: str, *, is_forgotten: bool
) -> None:
    began = datetime.now(UTC)
    await world.pay(2)
    async with world.working(world.client) as queue:
        handle = await world.client.start_workflow(
            ArchiveHistoriesWorkflow.run,
            ArchiveHistoriesInput(cell=cell),
            id=f"paid/{world.token}/itself",
            task_queue=queue,
        )
        assert (await handle.result()).archived == 2
    execution = Execution(handle.id, str(handle.first_execution_run_id), "ArchiveHistories")
    await world.listed({(execution.workflow_id, execution.run_id)})
    before = await status_of(cell, world.closed, world.archive)
    assert (before.waiting, before.lag > timedelta(0)) == (1, True)
    assert await world.archived() == 1
    assert (await status_of(cell, world.closed, world.archive)).waiting == 0

    ended = datetime.now(UTC) + timedelta(seconds=1)
    period = ["--from", began.isoformat(), "--to", ended.isoformat(), "--type", "ArchiveHistories", "--cell", cell]
    _, from_server = await command(world, "replay", *period)
    code, from_archive = await command(world, "replay", *period, "--from-archive")
    (line,) = (json.loads(line) for line in from_archive.splitlines())
    assert (code, line["workflowId"], line["verdict"]) == (0, handle.id, "same")
    assert line in [json.loads(line) for line in from_server.splitlines()]
    if is_forgotten:
        await world.forget(execution)
        assert await command(world, "replay", *period, "--from-archive") == (0, from_archive)

    # One byte of it is changed: it is said, and where
    name = next(name for name, file in world.files().items() if file[0].workflow_id == handle.id)
    _, said = await command(world, "archive", "verify", "--cell", cell)
    assert name not in said
    flip(world.folder / "objects" / name, b"encryption-key-id")
    code, said = await command(world, "archive", "verify", "--cell", cell)
    assert (code, f"{name}: is not what was written" in said) == (1, True)
    code, from_archive = await command(world, "replay", *period, "--from-archive")
    (line,) = (json.loads(line) for line in from_archive.splitlines())
    assert (code, line["verdict"], line["why"]) == (1, "cannot", "archive_contradicted")


async def test_what_is_not_archived_is_named_and_why(world: ArchiveWorld, settings_for: SettingsFor) -> None:
    address = settings_for().cells[CELL].temporal
    bare = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    (good,), (bad,) = await world.pay(1), await world.pay(1, client=bare)

    async def missing() -> dict[str, dict[str, str]]:
        code, said = await command(world, "archive", "missing", "--cell", CELL)
        assert code == 0
        told = [json.loads(line) for line in said.splitlines()]
        assert {each["cell"] for each in told} == {CELL}
        return {each["workflowId"]: each for each in told if world.token in each["workflowId"]}

    before = await missing()
    assert {name: each["why"] for name, each in before.items()} == {
        good.workflow_id: "waiting",
        bad.workflow_id: "waiting",
    }
    assert await world.archived() == 1
    after = await missing()
    assert after == {bad.workflow_id: before[bad.workflow_id] | {"why": READABLE}}
    assert (after[bad.workflow_id]["runId"], after[bad.workflow_id]["type"]) == (bad.run_id, bad.workflow_type)
    code, said = await command(world, "archive", "missing", "--cell", "nowhere")
    assert (code, said) == (1, "")


async def test_the_status_is_said_of_every_cell(world: ArchiveWorld) -> None:
    code, said = await command(world, "archive", "status")
    assert [line.partition(":")[0] for line in said.splitlines()] == ["eu", "us", "platform"]
    assert all("the server keeps histories for" in line for line in said.splitlines())
    assert code in {0, 1}  # the servers are those of other tests, too
    code, said = await command(world, "archive", "status", "--cell", "nowhere")
    assert (code, "no archive of nowhere" in said) == (1, True)


async def test_a_process_of_the_platform_is_looked_for_in_its_archive(world: ArchiveWorld) -> None:
    code, said = await command(world, "replay", "run-survey/s_nothing", "--from-archive")
    assert (code, json.loads(said)["verdict"], json.loads(said)["why"]) == (1, "cannot", "history_gone")


def test_of_the_platform_what_is_decided_is_archived_and_its_upkeep_is_not() -> None:
    left_out = set(never_archived(PLATFORM_ARCHIVE)) - set(never_archived(CELL))
    assert left_out == {"ArchiveHistories", "SealAuditLog"}
    assert {"RunSurvey", "ExportResults", "RotateKeys", "ReconcileSurvey"}.isdisjoint(left_out)


def test_no_cell_is_called_like_another_archive_or_log(settings_for: SettingsFor) -> None:
    addresses = settings_for().cells[CELL]
    for name in (PLATFORM_ARCHIVE, CATALOGUE_LOG):
        with pytest.raises(ValidationError, match=f"no cell can be called {name}"):
            Settings(environment=Environment.TEST, cells={name: addresses})


@pytest.mark.parametrize(
    ("left_out", "closed_for", "is_good"),
    [(0, None, True), (0, timedelta(hours=1), True), (0, timedelta(hours=36), False), (1, None, False)],
)
def test_an_archive_is_good_while_nothing_is_lost_and_nothing_about_to_be(
    left_out: int, closed_for: timedelta | None, *, is_good: bool
) -> None:
    oldest = None if closed_for is None else NOW - closed_for
    status = ArchiveStatus(
        "eu", ArchiveCounts(5, left_out, NOW), 0 if oldest is None else 3, oldest, timedelta(days=3), NOW
    )
    assert status.is_good is is_good
    assert ("the oldest for" in str(status)) == (oldest is not None)


def test_an_archive_that_is_later_than_the_retention_is_an_alert() -> None:
    registry = CollectorRegistry()
    metrics = ArchiveMetrics(registry)
    for lag, late in ((timedelta(minutes=5), 0.0), (timedelta(days=4), 1.0)):
        with capture_logs() as said:
            metrics.looked("eu", datetime.now(UTC) - lag, timedelta(days=3))
        assert registry.get_sample_value("archive_later_than_retention", {"cell": "eu"}) == late
        assert [line["event"] for line in said] == ["archive_later_than_retention"] * int(late)
