"""What was archived is replayed exactly like from the server, or not at all."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, WorkflowHistory

from domain.contracts.archive import ClosedExecution
from domain.contracts.replays import ReplayInput
from domain.errors import DomainError, ErrorCode
from domain.replay import HISTORY_GONE, ReplayVerdict, Verdict
from integrations.keys.file_kms import FileKms
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from integrations.temporal.archived_histories import ArchivedHistories
from integrations.temporal.closed_histories import TemporalClosedHistories
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.histories import Histories
from integrations.temporal.payloads import has_readable, payloads_in
from integrations.temporal.replay_code import OneCode
from integrations.temporal.replay_judging import NamespaceHistories, PooledJudge
from integrations.temporal.replay_pool import read_one
from integrations.temporal.replay_releases import Code
from integrations.temporal.replaying import Replays
from tests.archive_world import CELL, ArchiveWorld, flip, open_archive_world
from tests.conftest import SettingsFor
from tests.replay_world import Pay, PayTwice

_HISTORIES = Path(__file__).parents[2] / "replay" / "histories"
STORED = {path.stem: path.read_text() for path in sorted(_HISTORIES.glob("*.json"))}


@pytest_asyncio.fixture
async def world(settings_for: SettingsFor, tmp_path: Path) -> AsyncIterator[ArchiveWorld]:
    settings = settings_for(AUDIT)
    pool: asyncpg.Pool = await open_pool(settings.cells[CELL].database, settings, AUDIT)
    async with open_archive_world(settings_for, pool, tmp_path) as opened:
        yield opened
    await pool.close()


async def verdicts(histories: Histories | ArchivedHistories, workflow_id: str) -> list[ReplayVerdict]:
    history = await histories.read(workflow_id)
    assert history is not None
    return [verdict for kind in (Pay, PayTwice) for verdict in await Replays([kind]).judge([history])]


async def test_the_verdicts_are_those_from_the_server(world: ArchiveWorld) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    executions = await world.pay(2)
    assert await world.archived() == 2
    before = await verdicts(world.server, executions[0].workflow_id)
    assert [verdict.verdict for verdict in before] == [Verdict.SAME, Verdict.DIFFERENT]
    assert await verdicts(world.reading(), executions[0].workflow_id) == before

    found = [each async for each in world.reading().started(began, datetime.now(UTC), "Pay")]
    assert {each.workflow_id for each in executions} <= {each.workflow_id for each in found}
    ended = [each async for each in world.reading().started(datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1))]
    assert ended == []


async def test_officers_replay_out_of_the_archive_what_the_server_has_dropped(
    world: ArchiveWorld, settings_for: SettingsFor
) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    dropped, kept = await world.pay(2)
    assert await world.archived() == 2
    await world.forget(dropped)
    keys = FileKms(world.folder / "keys", frozenset({"in-flight"}))
    histories = NamespaceHistories(settings_for(), keys, {CELL: world.archive}, world.objects)
    judge = PooledJudge(histories, lambda _: OneCode(Code("now"), [Pay], 1))
    one = ReplayInput(replay_id="w_us_x", cell=CELL, namespace=CELL, workflow_id=dropped.workflow_id)
    period = ReplayInput(replay_id="w_us_y", cell=CELL, namespace=CELL, workflow_type="Pay", archived=True)
    try:
        (gone,) = await judge.judge(one, [dropped])
        (read,) = await judge.judge(one.model_copy(update={"archived": True}), [dropped])
        found = await judge.started(period, began, datetime.now(UTC), None)
        assert found is not None
        ours = [each for each in found if each.run_id in {dropped.run_id, kept.run_id}]
        assert sorted(each.run_id for each in ours) == sorted([dropped.run_id, kept.run_id])
        assert all(each.started_at is not None and each.events > 5 for each in ours)
        assert {verdict.verdict for verdict in await judge.judge(period, ours)} == {Verdict.SAME}
        with pytest.raises(DomainError) as refused:
            await judge.started(period.model_copy(update={"namespace": "platform"}), began, began, None)
        assert refused.value.code is ErrorCode.NOT_FOUND
    finally:
        judge.close()
    assert (gone.why, read.verdict) == (HISTORY_GONE, Verdict.SAME)


async def test_a_history_that_was_changed_is_not_given_out_and_its_neighbours_are(world: ArchiveWorld) -> None:
    executions = await world.pay(3)
    await world.archived()
    ((name, histories),) = world.files().items()
    changed = histories[1]
    flip(world.folder / "objects" / name, changed.events)
    reading = world.reading()
    with pytest.raises(DomainError) as refused:
        await reading.read(*changed.run)
    assert (refused.value.code, refused.value.detail) == (ErrorCode.ARCHIVE_CONTRADICTED, name)
    verdict = await read_one(reading, next(each for each in executions if each.run_id == changed.run_id))
    assert isinstance(verdict, ReplayVerdict)
    assert (verdict.verdict, verdict.why) == (Verdict.CANNOT, ErrorCode.ARCHIVE_CONTRADICTED)
    for other in (histories[0], histories[2]):
        assert await reading.read(*other.run) is not None


async def test_what_is_listed_as_closed_and_has_no_end_yet_is_read_later(world: ArchiveWorld) -> None:
    handle = await world.client.start_workflow("Pay", "x", id=f"paid/{world.token}/open", task_queue="nobody")
    run, now, closed = str(handle.first_execution_run_id), datetime.now(UTC), TemporalClosedHistories(world.client)
    listed = ClosedExecution(workflow_id=handle.id, run_id=run, workflow_type="Pay", started_at=now, closed_at=now)
    with pytest.raises(DomainError) as refused:
        await closed.read(listed)
    assert refused.value.code is ErrorCode.WORKFLOWS_UNAVAILABLE
    assert await closed.read(listed, may_be_open=True) is not None
    await handle.terminate()
    assert await closed.read(listed) is not None


async def test_the_server_is_told_to_keep_for_longer(world: ArchiveWorld) -> None:
    namespace = f"kept-{secrets.token_hex(4)}"
    service = world.client.workflow_service
    kept = Duration()
    kept.FromTimedelta(timedelta(days=3))
    await service.register_namespace(
        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=kept)
    )
    closed = TemporalClosedHistories(Client(world.client.service_client, namespace=namespace))
    async with asyncio.timeout(30):
        while await _retention(closed) != timedelta(days=3):
            await asyncio.sleep(0.1)  # a new namespace is known after a moment
    assert await closed.keep_for(timedelta(days=9))
    assert await _retention(closed) == timedelta(days=9)
    assert not await closed.keep_for(timedelta(days=-1))


async def _retention(closed: TemporalClosedHistories) -> timedelta | None:
    try:
        return await closed.retention()
    except DomainError:
        return None


async def test_what_is_archived_goes_with_its_key(world: ArchiveWorld) -> None:
    (execution,) = await world.pay(1)
    await world.archived()
    keys = FileKms(world.folder / "keys", frozenset({"manage:in-flight"}))
    for key_id in await keys.key_ids(f"in-flight/{CELL}"):
        await keys.destroy(key_id)
    fresh = EncryptionCodec(FileKms(world.folder / "keys", frozenset({"in-flight"})), f"in-flight/{CELL}")
    with pytest.raises(DomainError) as refused:
        await ArchivedHistories(world.archive, world.objects, fresh).read(execution.workflow_id)
    assert refused.value.code is ErrorCode.KEY_DESTROYED


@pytest.mark.parametrize("name", STORED)
async def test_a_payload_that_is_not_encrypted_is_noticed_in_any_event(name: str, tmp_path: Path) -> None:
    codec = EncryptionCodec(FileKms(tmp_path, frozenset({"in-flight"})), f"in-flight/{CELL}")
    events = WorkflowHistory.from_json(name, STORED[name]).events
    readable = [event for event in events if has_readable(event)]
    assert readable
    for event in readable:
        before = type(event)()
        before.CopyFrom(event)
        found = list(payloads_in(event))
        for payload, encoded in zip(found, await codec.encode(found), strict=True):
            payload.CopyFrom(encoded)
        assert not has_readable(event)
        assert has_readable(before)
    assert not any(has_readable(event) for event in events)
