"""Sealing over the real Temporal, with real tiles in files: killed anywhere it goes on; what contradicts is refused."""

import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, ScheduleActionStartWorkflow, WorkflowFailureError
from temporalio.common import WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer, Worker, WorkerDeploymentConfig

from activities.audit_sealing import SLICE_MOST, AuditSealingActivities
from comitia.log_copy import LogFolder
from domain.audit_log import LeafEntry
from domain.checkpoints import key_id
from domain.contracts.audit import AuditTreeHead, SealAuditLogInput, SealedAuditLog, SequencedAuditLog
from domain.errors import DomainError, ErrorCode
from domain.ids import seal_audit_log_workflow_id
from domain.log_verification import checkpoint_sizes, verify_log
from domain.merkle import leaf_hash
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import AUDIT_LOG, manage
from integrations.keys.signing import LogKeys, is_signed
from integrations.objects.file_store import FileObjectStore
from integrations.temporal.worker import sandbox
from tests.log_world import leaf
from tests.workflows.stored import HISTORIES, RECORD, without_traces
from workers.seal_schedule import schedule_sealing
from workflows.seal_audit_log import SealAuditLogWorkflow

ORIGIN = "comitia/test/eu"
STEPS = ("sequence_audit_log", "write_audit_tiles", "sign_audit_head", "compare_audit_log")


class Database:
    """The entries of a log; `rows` may be tampered with, `hashes` are what places were given to."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.rows: list[bytes] = []
        self.hashes: list[bytes] = []
        self.away = 0
        self.stray = ""
        self.age = timedelta()

    def write(self, count: int) -> None:
        first = len(self.rows) + len(self.waiting)
        self.waiting += [leaf(number) for number in range(first, first + count)]

    async def sequence(self, most: int) -> tuple[int, bool]:
        self._answer()
        given, self.waiting = self.waiting[:most], self.waiting[most:]
        self.rows += given
        self.hashes += map(leaf_hash, given)
        return len(self.hashes), bool(self.waiting)

    async def entries(self, first: int, end: int) -> Sequence[LeafEntry]:
        self._answer()
        return [
            LeafEntry(index, f"id-{index}", "votes.recorded", self.rows[index], self.hashes[index])
            for index in range(first, min(end, len(self.rows)))
        ]

    async def waited(self) -> timedelta:
        self._answer()
        return self.age

    async def passed_over(self, first: int, end: int) -> str:
        assert first <= end <= len(self.rows)
        return self.stray

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise DomainError(ErrorCode.AUDIT_LOG_UNAVAILABLE, "away")


class Watch:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.waits: list[timedelta] = []

    def sealed(self, log_name: str, size: int) -> None:
        self.heard.append(f"{log_name} {size}")

    def waiting(self, log_name: str, age: timedelta) -> None:
        self.waits.append(age)

    def contradicted(self, log_name: str, detail: str) -> None:
        self.heard.append(f"{log_name} {detail}")


class Logbook:
    """A log with everything around it; `after` is asked when a step has had its effect, and before it says so."""

    def __init__(self, folder: Path, client: Client) -> None:
        self.folder = folder
        self.client = client
        self.database = Database()
        self.watch = Watch()
        self.kms = FileKms(folder / "keys", frozenset({AUDIT_LOG, manage(AUDIT_LOG)}))
        self.after: Callable[[str], None] = lambda _: None
        self.slice_most = SLICE_MOST
        self.copy = LogFolder(folder / "objects" / "logs" / "eu")

    def sealing(self) -> AuditSealingActivities:
        return AuditSealingActivities(
            {"eu": self.database},
            FileObjectStore(self.folder / "objects"),
            LogKeys(self.kms, AUDIT_LOG),
            self.watch,
            environment="test",
            slice_most=self.slice_most,
        )

    def _hooked(self, function: Any) -> Any:
        @wraps(function)
        async def hooked(request: Any) -> Any:
            result = await function(request)
            self.after(function.__name__)
            return result

        return hooked

    @asynccontextmanager
    async def working(self) -> AsyncIterator[str]:
        queue = f"audit-{secrets.token_hex(4)}"
        async with Worker(
            self.client,
            task_queue=queue,
            workflows=[SealAuditLogWorkflow],
            activities=[self._hooked(function) for function in self.sealing().all()],
            workflow_runner=sandbox(),
            max_cached_workflows=0,
            deployment_config=WorkerDeploymentConfig(
                WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False
            ),
        ):
            yield queue

    async def seal(self, name: str = "", **fields: Any) -> SealedAuditLog:
        """Run one sealing and replay it; keep the history where that was asked for."""
        async with self.working() as queue:
            handle = await self.client.start_workflow(
                SealAuditLogWorkflow.run,
                SealAuditLogInput(log="eu", **fields),
                id=seal_audit_log_workflow_id("eu", queue),
                task_queue=queue,
            )
            try:
                sealed: SealedAuditLog = await handle.result()
            finally:
                await self._replay(name, await handle.fetch_history())
        return sealed

    async def _replay(self, name: str, history: Any) -> None:
        replayer = Replayer(
            workflows=[SealAuditLogWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
        )
        await replayer.replay_workflow(history)
        if name and os.environ.get(RECORD) and not (HISTORIES / f"{name}.json").exists():
            events = without_traces(json.loads(history.to_json()))
            (HISTORIES / f"{name}.json").write_text(json.dumps(events, indent=1, sort_keys=True) + "\n")

    async def refused(self, name: str = "", **fields: Any) -> str:
        """Run one sealing that ends with a fault; return what it says."""
        with pytest.raises(WorkflowFailureError) as failed:
            await self.seal(name, **fields)
        assert isinstance(failed.value.cause, ActivityError)
        cause = failed.value.cause.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.type, cause.non_retryable) == (ErrorCode.AUDIT_LOG_CONTRADICTED, True)
        assert self.watch.heard[-1] == f"eu {cause.message}"
        return cause.message

    async def good(self) -> int:
        """Check the log as anybody would; return how many entries it has."""
        keys = (await self.kms.public_keys(AUDIT_LOG)).values()
        checks, newest = verify_log(self.copy, {(ORIGIN, key_id(ORIGIN, key)): key for key in keys}, is_signed)
        assert [check for check in checks if not check.holds] == []
        assert newest is not None
        return newest.size


@pytest.fixture
def book(tmp_path: Path, client: Client) -> Logbook:
    return Logbook(tmp_path, client)


async def test_a_log_grows_by_what_came_and_stays_as_it_was(book: Logbook) -> None:
    assert (await book.seal()).size == 0
    for count in (1, 300, 5_000):
        book.database.write(count)
        sealed = await book.seal("seal-audit-log-sealed")
        assert sealed.size == len(book.database.rows)
        assert await book.good() == sealed.size
        assert 0 < sealed.compared <= 16 * 256
    before = {path: path.read_bytes() for path in (book.folder / "objects").rglob("*") if path.is_file()}
    again = await book.seal("seal-audit-log-nothing-new")
    assert (again.size, again.root) == (sealed.size, sealed.root)
    assert {path: path.read_bytes() for path in before} == before
    assert checkpoint_sizes(book.copy) == [0, 1, 301, 5_301]
    assert book.watch.heard == ["eu 0", "eu 1", "eu 301", "eu 5301", "eu 5301"]
    assert set(book.watch.waits) == {timedelta()}


async def test_a_log_that_stands_still_is_heard_of(book: Logbook) -> None:
    book.database.write(5)
    await book.seal()
    book.database.age = timedelta(minutes=7)
    await book.seal()
    assert book.watch.heard == ["eu 5", "eu 5"]
    assert book.watch.waits == [timedelta(), timedelta(minutes=7)]


@pytest.mark.parametrize("step", STEPS)
async def test_killed_after_any_step_it_goes_on_and_the_log_is_the_same(book: Logbook, step: str) -> None:
    book.database.write(300)
    await book.seal()
    left = {step}

    def die(name: str) -> None:
        if name in left:
            left.remove(name)
            book.database.write(3)  # the world goes on meanwhile
            raise RuntimeError("killed before it could say so")

    book.after = die
    book.database.write(250)
    sealed = await book.seal()
    assert not left
    assert await book.good() == sealed.size >= 550
    assert (await book.seal()).size == 553
    assert await book.good() == 553


async def test_a_long_backlog_is_signed_slice_by_slice_and_an_attempt_that_is_killed_costs_one(book: Logbook) -> None:
    book.database.write(10)
    await book.seal()
    book.slice_most, left = 300, 1

    def die(name: str) -> None:
        nonlocal left
        if name == "write_audit_tiles" and book.watch.heard[-1] == "eu 610" and left:
            left -= 1
            raise RuntimeError("its ten minutes are over")

    book.after = die
    book.database.write(1_000)
    sealed = await book.seal("seal-audit-log-slices")
    assert not left
    assert await book.good() == sealed.size == 1_010
    assert checkpoint_sizes(book.copy) == [10, 310, 610, 910, 1_010]
    assert book.watch.heard == ["eu 10", "eu 310", "eu 610", "eu 910", "eu 1010"]


async def test_two_at_once_make_one_log(book: Logbook) -> None:
    book.database.write(700)
    book.slice_most = 256
    book.after = lambda name: book.database.write(5) if name == "sequence_audit_log" else None
    async with book.working() as queue:
        handles = [
            await book.client.start_workflow(
                SealAuditLogWorkflow.run,
                SealAuditLogInput(log="eu"),
                id=seal_audit_log_workflow_id("eu", f"{queue}-{number}"),
                task_queue=queue,
            )
            for number in range(4)
        ]
        sizes = {(await handle.result()).size for handle in handles}
    assert await book.good() == max(sizes)


async def test_a_sealing_that_another_one_overtook_finds_its_log_signed(book: Logbook) -> None:
    book.database.write(300)
    overtaken = SequencedAuditLog(log="eu", size=(await book.seal()).size)
    book.database.write(5)
    sealed = await book.seal()
    head = await ActivityEnvironment().run(book.sealing().write_audit_tiles, overtaken)
    assert head == AuditTreeHead(log="eu", size=305, root=sealed.root, is_signed=True)
    assert not [said for said in book.watch.heard if said not in {"eu 300", "eu 305"}]


async def test_an_outage_is_waited_out(book: Logbook) -> None:
    book.database.write(5)
    book.database.away = 2
    assert (await book.seal("seal-audit-log-database-away")).size == 5
    assert await book.good() == 5


async def test_a_key_that_was_replaced_goes_on_with_the_log(book: Logbook) -> None:
    book.database.write(5)
    await book.seal()
    await book.kms.rotate(AUDIT_LOG)
    book.database.write(5)
    await book.seal()
    assert await book.good() == 10


async def test_an_entry_that_was_changed_lately_is_named_and_nothing_more_is_signed(book: Logbook) -> None:
    book.database.write(300)
    await book.seal()
    book.database.rows[299] = leaf(9_999)
    book.database.write(1)
    assert await book.refused("seal-audit-log-contradicted") == "entry 299 (votes.recorded id-299) is not what it was"
    assert await book.good() == 300


async def test_an_entry_that_was_changed_long_ago_is_found_in_its_turn_and_what_is_new_is_signed(book: Logbook) -> None:
    book.database.write(3 * 256)
    await book.seal()
    book.database.rows[256] = b""
    book.database.write(1)
    with pytest.raises(WorkflowFailureError):
        await book.seal(compare_tiles=1_000)  # all of it
    assert book.watch.heard[-2:] == ["eu 769", "eu entry 256 (id-256) is gone"]
    assert await book.good() == 769


async def test_an_entry_that_was_passed_over_is_named(book: Logbook) -> None:
    book.database.write(300)
    book.database.stray = "planted id-x has no place"
    with pytest.raises(WorkflowFailureError):
        await book.seal()
    assert book.watch.heard == ["eu 300", "eu planted id-x has no place"]
    assert await book.good() == 300


async def test_a_database_that_was_set_back_signs_no_other_log(book: Logbook) -> None:
    book.database.write(300)
    await book.seal()
    del book.database.rows[200:], book.database.hashes[200:]
    assert await book.refused() == "entry 256 is gone"
    book.database.waiting = [leaf(number) for number in range(1_000, 1_200)]
    assert (await book.refused()).startswith("entry 256 (")
    assert await book.good() == 300


async def test_a_row_that_is_not_what_got_its_place_is_not_sealed(book: Logbook) -> None:
    book.database.write(5)
    await book.database.sequence(5)
    book.database.rows[3] = leaf(9_999)
    assert await book.refused() == "entry 3 (votes.recorded id-3) is not what it was"
    assert checkpoint_sizes(book.copy) == []


async def test_tiles_that_were_changed_in_the_store_are_noticed(book: Logbook) -> None:
    book.database.write(300)
    await book.seal()
    tile = book.folder / "objects/logs/eu/tile/0/001.p/44"
    tile.write_bytes(tile.read_bytes()[::-1])
    book.database.write(1)
    assert await book.refused() == "the tiles of 300 entries are not those that were signed"


async def test_a_file_that_stands_in_the_way_is_not_taken_for_ours(book: Logbook) -> None:
    book.database.write(256)
    planted = book.folder / "objects/logs/eu/tile/0/000"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(bytes(256 * 32))
    assert await book.refused() == "logs/eu/tile/0/000 is kept already, and is another"


async def test_nothing_is_signed_that_is_not_in_the_tiles(book: Logbook) -> None:
    book.database.write(300)
    await book.seal()
    sealing = book.sealing()
    for size, root in ((301, bytes(32)), (300, bytes(32))):
        with pytest.raises(ApplicationError) as refused:
            await sealing.sign_audit_head(AuditTreeHead(log="eu", size=size, root=root))
        assert refused.value.type in {ErrorCode.AUDIT_LOG_CONTRADICTED, ErrorCode.OBJECTS_UNAVAILABLE}
    assert await book.good() == 300


async def test_a_schedule_of_an_earlier_release_gets_the_input_of_this_one(client: Client) -> None:
    name = f"log{secrets.token_hex(4)}"
    handle = client.get_schedule_handle(seal_audit_log_workflow_id(name, "scheduled"))
    try:
        await schedule_sealing(client, (name,))
        await handle.pause(note="by an operator")
        await schedule_sealing(client, (name,))
        found = (await handle.describe()).schedule
        assert isinstance(found.action, ScheduleActionStartWorkflow)
        (given,) = await client.data_converter.decode(found.action.args, [SealAuditLogInput])
        assert given == SealAuditLogInput(log=name)
        assert (found.state.paused, found.state.note) == (True, "by an operator")
    finally:
        with suppress(RPCError):
            await handle.delete()
