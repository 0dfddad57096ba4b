"""Archiving over the real Temporal: as it is and once, killed anywhere; what cannot be archived is named."""

import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from temporalio.client import Client, ScheduleActionStartWorkflow, WorkflowFailureError, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer

from activities.history_archive import OVERLAP, SETTLE, HistoryArchiveActivities
from domain.archive_ports import ArchiveCell, ArchiveCounts, SealedHistory
from domain.contracts.archive import (
    ArchivedHistories,
    ArchiveHistoriesInput,
    ArchivePlan,
    ClosedExecution,
    PlanArchiveInput,
)
from domain.errors import ErrorCode
from domain.history_packs import GONE, READABLE, pack, unpack
from domain.ids import archive_histories_workflow_id
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from integrations.temporal.worker import sandbox
from tests.archive_world import CELL, WHOM, ArchiveWorld, Watch, flip, open_archive_world
from tests.conftest import SettingsFor
from tests.workflows.stored import HISTORIES, RECORD, without_traces
from workers.archive_schedule import schedule_archive
from workflows.archive_histories import ArchiveHistoriesWorkflow

STEPS = ("plan_archive", "write_history_pack", "note_history_pack", "mark_archive")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(AUDIT)
    opened = await open_pool(settings.cells[CELL].database, settings, AUDIT)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def world(settings_for: SettingsFor, pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[ArchiveWorld]:
    async with open_archive_world(settings_for, pool, tmp_path) as opened:
        yield opened


async def run(
    world: ArchiveWorld, client: Client, name: str = "", *, given: dict[str, Any] | None = None, **options: Any
) -> ArchivedHistories:
    """Run one archiving and replay it; keep the history where that was asked for."""
    async with world.working(client, **options) as queue:
        handle = await client.start_workflow(
            ArchiveHistoriesWorkflow.run,
            ArchiveHistoriesInput(cell=CELL, **(given or {})),
            id=world.workflow_id(queue),
            task_queue=queue,
        )
        world.running = handle
        try:
            archived: ArchivedHistories = await handle.result()
        finally:
            await replay(name, await handle.fetch_history())
    return archived


async def replay(name: str, history: WorkflowHistory) -> None:
    replayer = Replayer(
        workflows=[ArchiveHistoriesWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
    )
    await replayer.replay_workflow(history)
    if name and os.environ.get(RECORD) and not (HISTORIES / f"{name}.json").exists():
        events = without_traces(json.loads(history.to_json()))
        (HISTORIES / f"{name}.json").write_text(json.dumps(events, indent=1, sort_keys=True) + "\n")


async def test_what_has_closed_is_archived_as_it_is_and_once(world: ArchiveWorld, client: Client) -> None:
    executions = await world.pay(3)
    began = datetime.now(UTC)
    archived = await run(world, client, "archive-histories-archived")
    assert (archived.archived, archived.left_out) == (3, 0)
    assert archived.complete_until >= began
    await world.check_whole(executions)
    assert all(WHOM.encode() not in path.read_bytes() for path in world.folder.rglob("*.pack"))
    assert (await world.archive.counts()).complete_until == archived.complete_until

    more = await world.pay(1)
    assert (await run(world, client)).archived == 1
    assert (await run(world, client, "archive-histories-nothing-new")).archived == 0
    await world.check_whole([*executions, *more])


async def test_killed_after_any_step_it_goes_on_without_a_duplicate_or_a_hole(
    world: ArchiveWorld, client: Client
) -> None:
    executions = await world.pay(5)
    left = set(STEPS)

    def die(name: str) -> None:
        if name in left:
            left.remove(name)
            raise RuntimeError("killed before it could say so")

    world.after = die
    assert (await run(world, client, slice_most=2)).archived == 5
    assert not left
    await world.check_whole(executions)
    assert len(world.files()) > 1


async def test_an_execution_that_was_ended_from_outside_leaves_nothing_out(world: ArchiveWorld, client: Client) -> None:
    executions = await world.pay(4)

    async def end(name: str) -> None:
        if name == "note_history_pack":
            world.after = lambda _: None
            assert world.running is not None
            await world.running.terminate()

    world.after = end
    with pytest.raises(WorkflowFailureError):
        await run(world, client, slice_most=1)
    assert 0 < len(world.files()) < 4
    await run(world, client)
    await world.check_whole(executions)


async def test_it_goes_on_from_where_another_run_was(world: ArchiveWorld, client: Client) -> None:
    await world.pay(1)
    after = datetime.now(UTC)
    (late,) = await world.pay(1)
    archived = await run(world, client, given={"after": after, "archived": 7, "left_out": 1})
    assert (archived.archived, archived.left_out) == (8, 1)
    assert [history.run for file in world.files().values() for history in file] == [(late.workflow_id, late.run_id)]


async def test_a_history_with_a_payload_that_can_be_read_does_not_leave(
    world: ArchiveWorld, client: Client, settings_for: SettingsFor
) -> None:
    address = settings_for().cells[CELL].temporal
    bare = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    good, (bad,) = await world.pay(2), await world.pay(1, client=bare)
    archived = await run(world, client, "archive-histories-left-out")
    assert (archived.archived, archived.left_out) == (2, 1)
    assert world.watch.heard == [f"{bad.workflow_id} {READABLE}"]
    await world.check_whole(good)
    assert (await run(world, client)).left_out == 0  # it is not looked at again
    assert await world.reading().read(bad.workflow_id) is None


async def test_what_the_server_forgot_in_between_is_named(world: ArchiveWorld, client: Client) -> None:
    kept, forgotten = await world.pay(2)

    def forget(name: str) -> None:
        if name == "plan_archive":
            world.closed.forgotten.add(forgotten.workflow_id)

    world.after = forget
    archived = await run(world, client)
    assert (archived.archived, archived.left_out) == (1, 1)
    assert world.watch.heard == [f"{forgotten.workflow_id} {GONE}"]
    await world.check_whole([kept])


async def test_what_the_server_forgot_after_it_was_written_is_archived_all_the_same(
    world: ArchiveWorld, client: Client
) -> None:
    kept, forgotten = await world.pay(2)
    before = await world.server.read(forgotten.workflow_id)

    def forget_and_die(name: str) -> None:
        if name == "write_history_pack":
            world.after = lambda _: None
            world.closed.forgotten.add(forgotten.workflow_id)
            raise RuntimeError("killed before it could say so")

    world.after = forget_and_die
    archived = await run(world, client)
    assert (archived.archived, archived.left_out) == (2, 0)
    after = await world.reading().read(forgotten.workflow_id)
    assert before is not None
    assert after is not None
    assert list(after.events) == list(before.events)
    assert await world.reading().read(kept.workflow_id) is not None


def flipped(path: Path) -> None:
    flip(path, b"encryption-key-id")


def without_the_last(path: Path) -> None:
    path.write_bytes(pack(unpack(path.read_bytes())[:-1]))  # as good a file as any


@pytest.mark.parametrize("changed", [flipped, without_the_last])
async def test_a_file_that_was_changed_is_named_and_not_noted(
    world: ArchiveWorld, client: Client, changed: Callable[[Path], None]
) -> None:
    executions = await world.pay(2)

    def change(name: str) -> None:
        if name == "write_history_pack":
            (path,) = world.folder.rglob("*.pack")
            changed(path)

    world.after = change
    with pytest.raises(WorkflowFailureError) as failed:
        await run(world, client, "archive-histories-contradicted")
    assert isinstance(failed.value.cause, ActivityError)
    cause = failed.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == (ErrorCode.ARCHIVE_CONTRADICTED, True)
    assert world.watch.heard == [cause.message]
    assert cause.message.startswith(f"histories/{CELL}/")
    for execution in executions:
        assert await world.archive.place(execution.workflow_id) is None


async def test_a_file_that_stands_in_the_way_is_not_taken_for_ours(world: ArchiveWorld) -> None:
    await world.pay(1)
    plan: ArchivePlan = await ActivityEnvironment().run(world.activities().plan_archive, PlanArchiveInput(cell=CELL))
    await world.archived()
    (path,) = world.folder.rglob("*.pack")
    path.write_bytes(b"comitia-histories/1\n")
    with pytest.raises(ApplicationError) as refused:
        await ActivityEnvironment().run(world.activities().write_history_pack, plan.packs[0])
    assert refused.value.type == ErrorCode.ARCHIVE_CONTRADICTED
    assert "as it is" in refused.value.message


class Many:
    """Implements `ClosedHistories` and `ArchiveNotes` for executions that are made up."""

    def __init__(self, instants: Sequence[datetime]) -> None:
        self.executions = [
            ClosedExecution(
                workflow_id=f"w/{number}", run_id="r", workflow_type="T", started_at=at, closed_at=at, size_bytes=1
            )
            for number, at in enumerate(instants)
        ]
        self.noted: list[str] = []
        self.kept, self.may_keep = timedelta(days=3), True
        self.complete_until: datetime | None = None

    async def retention(self) -> timedelta:
        return self.kept

    async def keep_for(self, retention: timedelta) -> bool:
        if self.may_keep:
            self.kept = retention
        return self.may_keep

    async def count(self, after: datetime, until: datetime) -> int:
        return sum(after <= each.closed_at < until for each in self.executions)

    async def closed(self, after: datetime, until: datetime) -> AsyncIterator[ClosedExecution]:
        for each in reversed(self.executions):
            if after <= each.closed_at < until:
                yield each

    async def read(self, execution: ClosedExecution) -> SealedHistory | None:
        raise AssertionError(execution)

    async def counts(self) -> ArchiveCounts:
        return ArchiveCounts(len(self.noted), 0, self.complete_until)

    async def missing(self, executions: Sequence[ClosedExecution]) -> list[ClosedExecution]:
        return [each for each in executions if each.workflow_id not in self.noted]

    async def note(self, *_: Any) -> None:
        raise AssertionError

    async def mark(self, complete_until: datetime) -> None:
        raise AssertionError(complete_until)


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(microseconds=1), timedelta(seconds=7)])
async def test_the_oldest_come_first_and_every_one_comes_once(apart: timedelta, tmp_path: Path) -> None:
    began = datetime.now(UTC) - timedelta(hours=10)
    many = Many([began + apart * number for number in range(3000)])
    archiving = HistoryArchiveActivities(
        {CELL: ArchiveCell(many, many)}, FileObjectStore(tmp_path), Watch(), slice_most=700
    )
    after: datetime | None = None
    for _ in range(200):
        plan: ArchivePlan = await ActivityEnvironment().run(
            archiving.plan_archive, PlanArchiveInput(cell=CELL, after=after)
        )
        taken = [each.workflow_id for planned in plan.packs for each in planned.executions]
        assert len(taken) <= 700
        many.noted += taken
        if plan.is_complete:
            assert len(many.noted) == await many.count(began, plan.until)
            after = plan.until
            if plan.is_last:
                break
    assert sorted(many.noted) == sorted(each.workflow_id for each in many.executions)
    if apart:
        assert many.noted == [each.workflow_id for each in many.executions]


async def test_an_archive_that_falls_behind_has_the_server_keep_for_longer(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    many, watch = Many([now - timedelta(hours=1)]), Watch()
    activities = HistoryArchiveActivities({CELL: ArchiveCell(many, many)}, FileObjectStore(tmp_path), watch)
    told: list[str] = []
    for late, days in (
        (None, 3),  # it was never complete: of what is missing nobody knows for how long
        (timedelta(hours=17), 3),
        (timedelta(hours=19), 4),
        (timedelta(hours=19), 4),  # which is long enough from then on
        (timedelta(hours=47), 8),
        (timedelta(hours=1), 8),  # a person makes it shorter again
        (timedelta(days=40), 90),
        (timedelta(days=50), 90),
    ):
        many.complete_until = None if late is None else now - late
        if days > many.kept.days:
            told.append(f"{CELL} kept for {days} days: True")
        await ActivityEnvironment().run(activities.plan_archive, PlanArchiveInput(cell=CELL))
        assert (many.kept, watch.heard) == (timedelta(days=days), told)
    many.kept, many.may_keep = timedelta(days=3), False
    await ActivityEnvironment().run(activities.plan_archive, PlanArchiveInput(cell=CELL))
    assert (many.kept, watch.heard) == (timedelta(days=3), [*told, f"{CELL} kept for 90 days: False"])


async def test_what_was_listed_late_is_looked_for_again_and_what_may_be_listed_late_is_not_yet(tmp_path: Path) -> None:
    now, moment = datetime.now(UTC), timedelta(seconds=20)
    complete_until = now - timedelta(hours=1)
    many = Many(
        [
            complete_until - OVERLAP - moment,  # long ago: it would have been listed
            complete_until - OVERLAP + moment,
            now - SETTLE - moment,
            now - SETTLE + moment,  # others that closed before it may not be listed yet
        ]
    )
    many.complete_until = complete_until
    archiving = HistoryArchiveActivities({CELL: ArchiveCell(many, many)}, FileObjectStore(tmp_path), Watch())
    plan: ArchivePlan = await ActivityEnvironment().run(archiving.plan_archive, PlanArchiveInput(cell=CELL))
    taken = [each.workflow_id for planned in plan.packs for each in planned.executions]
    assert (taken, plan.is_last) == (["w/1", "w/2"], True)
    assert now - SETTLE <= plan.until < now - SETTLE + moment


async def test_a_schedule_of_an_earlier_release_gets_the_input_of_this_one(client: Client) -> None:
    cell = f"cell{secrets.token_hex(4)}"
    handle = client.get_schedule_handle(archive_histories_workflow_id(cell, "scheduled"))
    try:
        await schedule_archive(client, (cell,))
        await handle.pause(note="by an operator")
        await schedule_archive(client, (cell,))
        found = (await handle.describe()).schedule
        assert isinstance(found.action, ScheduleActionStartWorkflow)
        (given,) = await client.data_converter.decode(found.action.args, [ArchiveHistoriesInput])
        assert given == ArchiveHistoriesInput(cell=cell)
        assert found.state.paused
    finally:
        with suppress(RPCError):
            await handle.delete()
