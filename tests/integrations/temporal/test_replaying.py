"""A replay decides and does nothing; where it decides otherwise, the first event that differs is named."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import History
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Worker

from domain.contracts.replays import ReplayInput
from domain.errors import DomainError, ErrorCode
from domain.replay import HISTORY_GONE, NOTHING_DECIDED, TYPE_UNKNOWN, Execution, ReplayCode, ReplayVerdict, Verdict
from integrations.keys.file_kms import FileKms
from integrations.temporal.client import connect
from integrations.temporal.codec import ENCODING, EncryptionCodec
from integrations.temporal.events import said_of
from integrations.temporal.histories import Histories
from integrations.temporal.payloads import payloads_in
from integrations.temporal.replay_code import RecordedCode
from integrations.temporal.replay_judging import PooledJudge
from integrations.temporal.replay_pool import ReplayDiedError, ReplayPool
from integrations.temporal.replay_process import Readable
from integrations.temporal.replay_releases import StoredReleases
from integrations.temporal.replaying import Replays
from integrations.temporal.worker import sandbox
from tests.conftest import SettingsFor
from tests.replay_world import (
    Again,
    AgainElsewhere,
    Gather,
    GatherLate,
    GatherPayments,
    Pay,
    PayAloud,
    PayAndEnd,
    PayAtOnce,
    PayBadly,
    PayByCommand,
    PayByNetwork,
    PayMore,
    PayTwice,
    Tell,
    Traces,
)
from workflows.registry import WORKFLOWS

STORED = Path(__file__).parents[2] / "replay" / "histories"
# Of a release that activated whom the provider took its word back of while a claim waited, and then suspended them:
# now nothing is left of that rejection, and its reasons are the provider's
DECIDED_OTHERWISE = {
    f"verify-identity-{way}reversed-while-claiming": "result with other content: reasons, staff_reasons"
    for way in ("", "local-")
}
WHOM = "somebody with a name"
BUILD = "replayed"


class World:
    """Executions that ran on a real server, under keys of their own."""

    def __init__(self, client: Client, codec: EncryptionCodec, keys: FileKms, traces: Traces) -> None:
        self.client, self.keys, self.traces = client, keys, traces
        self.histories = Histories(client, codec)
        self.codec = codec
        self.queue = f"replayed-{secrets.token_hex(4)}"

    async def run(self, kind: type, count: int = 1, whom: str = WHOM) -> list[Execution]:
        async with Worker(
            self.client,
            task_queue=self.queue,
            workflows=[kind],
            activities=[self.traces.pay, self.traces.tell],
            workflow_runner=sandbox(),
            build_id=BUILD,
            max_cached_workflows=0,
        ):
            found = []
            for _ in range(count):
                handle = await self.client.start_workflow(
                    kind.__name__, whom, id=f"replayed/{secrets.token_hex(8)}", task_queue=self.queue
                )
                await handle.result()
                found.append(Execution(handle.id, str(handle.first_execution_run_id), kind.__name__))
        return found

    async def judge(self, execution: Execution, *workflows: type) -> ReplayVerdict:
        history = await self.histories.read(execution.workflow_id, execution.run_id)
        assert history is not None
        (verdict,) = await Replays(workflows).judge([history])
        return verdict


@pytest_asyncio.fixture
async def world(settings_for: SettingsFor, tmp_path: Path) -> World:
    purpose = f"in-flight/{secrets.token_hex(4).translate(str.maketrans('0123456789', 'ghijklmnop'))}"
    keys = FileKms(tmp_path / "keys", frozenset({"in-flight", "manage:in-flight"}))
    codec = EncryptionCodec(keys, purpose)
    client = await connect(settings_for().cells["eu"].temporal, codec)
    return World(client, codec, keys, Traces(tmp_path / "traces"))


async def each(executions: Sequence[Execution]) -> AsyncIterator[Execution]:
    for execution in executions:
        yield execution


@pytest.mark.parametrize(
    ("now", "recorded", "wanted"),
    [
        (PayTwice, "activity_task_scheduled tell", "activity pay"),
        (PayAtOnce, "timer_started 1", "Activity"),
        (PayAndEnd, "timer_started 1", "Complete workflow"),
        (PayBadly, "timer_started 1", "to fail with an error outside of the catalogue"),
        (PayMore, "activity_task_scheduled pay", "activity pay with other content"),
    ],
)
async def test_the_first_event_that_differs_is_named_and_nothing_is_done(
    world: World, now: type, recorded: str, wanted: str
) -> None:
    (execution,) = await world.run(Pay)
    done = world.traces.lines()
    assert done == [f"pay {WHOM}", f"tell {WHOM}", f"tell {WHOM}"]

    same = await world.judge(execution, Pay, Tell)
    assert (same.verdict, same.run_id, same.workflow_type) == (Verdict.SAME, execution.run_id, "Pay")

    found = await world.judge(execution, now)
    assert (found.verdict, found.recorded, found.wanted) == (Verdict.DIFFERENT, recorded, wanted)
    history = await world.histories.read(execution.workflow_id)
    assert history is not None
    kind = f"{recorded.split(maxsplit=1)[0]}_event_attributes"
    events = [event for event in history.events if event.WhichOneof("attributes") == kind]
    assert found.event_id == events[0 if now is PayMore else -1].event_id
    assert WHOM not in str(found.document())
    assert world.traces.lines() == done


@pytest.mark.parametrize(("now", "wanted"), [(GatherPayments, "activity pay"), (GatherLate, "Timer")])
async def test_of_what_one_task_asked_for_at_once_the_first_that_differs_is_named(
    world: World, now: type, wanted: str
) -> None:
    (execution,) = await world.run(Gather)
    found = await world.judge(execution, now)
    assert (found.verdict, found.recorded, found.wanted) == (Verdict.DIFFERENT, "activity_task_scheduled tell", wanted)
    history = await world.histories.read(execution.workflow_id)
    assert history is not None
    assert said_of(history.events[found.event_id - 1]) == found.recorded


async def test_where_a_run_goes_on_otherwise_is_different(world: World) -> None:
    (execution,) = await world.run(Again)
    assert (await world.judge(execution, Again)).verdict is Verdict.SAME
    found = await world.judge(execution, AgainElsewhere)
    assert (found.verdict, found.recorded) == (Verdict.DIFFERENT, "workflow_execution_continued_as_new Again")
    assert found.wanted == "to continue as new with other content"


async def test_what_cannot_be_said_says_why(world: World) -> None:
    (execution,) = await world.run(Tell)
    assert (await world.judge(execution, Pay)).why == TYPE_UNKNOWN

    waiting = await world.client.start_workflow("Tell", WHOM, id=f"replayed/{secrets.token_hex(8)}", task_queue="none")
    started = Execution(waiting.id, str(waiting.first_execution_run_id), "Tell")
    assert (await world.judge(started, Tell)).why == NOTHING_DECIDED
    await waiting.terminate()

    never = Execution("replayed/never", "", "Tell")
    sealed = await world.histories.read_sealed(execution.workflow_id)
    assert sealed is not None
    for key_id in await world.keys.key_ids(world.codec._purpose):
        await world.keys.destroy(key_id)
    without_keys = Histories(world.client, EncryptionCodec(world.keys, world.codec._purpose))
    with pytest.raises(DomainError) as refused:
        await without_keys.read(execution.workflow_id)
    assert refused.value.code is ErrorCode.KEY_DESTROYED
    with ReplayPool([Tell], processes=1) as pool:
        verdicts = {found.workflow_id: found async for found in pool.over(without_keys, each([execution, never]))}
    assert verdicts[execution.workflow_id].why == ErrorCode.KEY_DESTROYED
    assert verdicts["replayed/never"].why == HISTORY_GONE
    assert {found.verdict for found in verdicts.values()} == {Verdict.CANNOT}


async def test_many_are_replayed_in_other_processes_and_leave_no_trace(world: World) -> None:
    executions = await world.run(Pay, 5)
    done = world.traces.lines()
    with ReplayPool([Pay], processes=2) as pool:
        verdicts = [found async for found in pool.over(world.histories, each(executions))]
    assert {found.run_id for found in verdicts} == {execution.run_id for execution in executions}
    assert {found.verdict for found in verdicts} == {Verdict.SAME}
    with ReplayPool([PayTwice], processes=1) as pool:
        verdicts = [found async for found in pool.over(world.histories, each(executions))]
    assert [found.verdict for found in verdicts] == [Verdict.DIFFERENT] * 5
    assert world.traces.lines() == done


def stored_page() -> list[Readable]:
    history = WorkflowHistory.from_json("stored", (STORED / "submit-votes-recorded.json").read_text())
    return [("stored", History(events=history.events).SerializeToString())]


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_what_replays_is_given_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMITIA_DATABASE_PASSWORDS__COMITIA_IDENTITY", "COMITIA_KEYS_FOLDER", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a secret of ours")
    with ReplayPool(WORKFLOWS, processes=1) as pool:
        (verdict,) = await asyncio.wrap_future(pool.submit(stored_page()))
        (pid,) = pool.pids
        given = environment_of(pid)
        status = status_of(pid)
    assert verdict.verdict is Verdict.SAME
    assert "Seccomp:\t2" in status  # behind the wall
    names = {line.partition(b"=")[0].decode() for line in given.split(b"\0") if line}
    assert "PYTHONPATH" in names
    assert names <= {"PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"} | {
        name for name in names if name.startswith("COVERAGE_PROCESS_")
    }
    assert b"a secret of ours" not in given
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("now", "call"), [(PayByNetwork, "socket.__new__"), (PayByCommand, "subprocess.Popen")], ids=["network", "command"]
)
async def test_what_replays_can_reach_nobody_and_whoever_tries_is_named(world: World, now: type, call: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        asking, honest = [*await world.run(Pay, whom=str(listener.getsockname()[1])), *await world.run(Tell)]
        assert (await world.judge(asking, now)).verdict is Verdict.SAME  # as it would be without a guard
        listener.accept()[0].close()
        with ReplayPool([now, Tell], processes=1) as pool:
            executions = each([honest, asking, honest])
            verdicts = [found async for found in pool.over(world.histories, executions)]
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert [verdict.verdict for verdict in verdicts] == [Verdict.SAME, Verdict.CANNOT, Verdict.SAME]
    told = {"workflowId": asking.workflow_id, "verdict": "cannot", "why": "reached_out", "wanted": call}
    assert verdicts[1].document().items() >= told.items()


async def test_a_process_that_dies_is_said_and_nobody_waits_for_it(world: World) -> None:
    (execution,) = await world.run(Pay)
    with ReplayPool([Pay], processes=1) as pool:
        assert [found.verdict async for found in pool.over(world.histories, each([execution]))] == [Verdict.SAME]
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(DomainError) as failed:
            _ = [found async for found in pool.over(world.histories, each([execution]))]
    assert failed.value.code is ErrorCode.WORKFLOWS_UNAVAILABLE
    with ReplayPool([Pay], processes=1) as pool:
        broken = pool.submit([("broken", b"no history")])
        with pytest.raises(ReplayDiedError):
            await asyncio.wrap_future(broken)


async def test_whoever_judges_goes_on_after_a_process_has_died(world: World, tmp_path: Path) -> None:
    (execution,) = await world.run(Pay)
    made: list[RecordedCode] = []

    def make(_: ReplayCode) -> RecordedCode:
        made.append(RecordedCode(StoredReleases(BUILD, tmp_path), [Pay], 1))
        return made[-1]

    judge = PooledJudge(cast("Any", Anywhere(world.histories)), make)
    request = ReplayInput(replay_id="w_eu_x", cell="eu", namespace="eu", workflow_id=execution.workflow_id)
    try:
        for _ in range(2):
            assert [found.verdict for found in await judge.judge(request, [execution])] == [Verdict.SAME]
            os.kill(made[-1].pools[BUILD].pids[0], signal.SIGKILL)
            with pytest.raises(DomainError) as failed:
                await judge.judge(request, [execution])
            assert failed.value.code is ErrorCode.WORKFLOWS_UNAVAILABLE
    finally:
        judge.close()
    assert len(made) == 2


class Anywhere:
    """The same histories in every namespace."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories

    async def of(self, _: str, *, archived: bool) -> Histories:
        return self._histories


async def test_what_a_workflow_says_is_no_verdict_and_its_errors_are_told_to_nobody(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    executions = await world.run(Pay, 2)
    with ReplayPool([PayAloud], processes=1) as pool:
        verdicts = [found async for found in pool.over(world.histories, each(executions))]
    assert [(found.verdict, found.wanted) for found in verdicts] == [
        (Verdict.DIFFERENT, "to fail with an error outside of the catalogue")
    ] * 2
    said = capfd.readouterr()
    assert said.out == ""
    assert WHOM not in said.err


async def test_every_payload_of_a_history_is_opened(world: World) -> None:
    (execution,) = await world.run(Pay)
    sealed = await world.histories.read_sealed(execution.workflow_id)
    opened = await world.histories.read(execution.workflow_id)
    assert sealed is not None
    assert opened is not None

    def encodings(history: WorkflowHistory) -> list[bytes]:
        found: list[Payload] = [payload for event in history.events for payload in payloads_in(event)]
        return [payload.metadata["encoding"] for payload in found]

    assert encodings(sealed).count(ENCODING) >= 5
    assert ENCODING not in encodings(opened)
    assert len(encodings(sealed)) == len(encodings(opened))


async def test_every_stored_history_is_the_same_without_the_sandbox_as_well() -> None:
    paths = [path for path in sorted(STORED.glob("*.json")) if path.stat().st_size < 50_000]  # weeks of looks take long
    stored = [WorkflowHistory.from_json(path.stem, path.read_text()) for path in paths]
    verdicts = await Replays(WORKFLOWS).judge(stored)
    assert len({found.workflow_type for found in verdicts}) == len(WORKFLOWS)
    different = {found.workflow_id: found.wanted for found in verdicts if found.verdict is not Verdict.SAME}
    assert different == DECIDED_OTHERWISE


async def test_stored_histories_are_judged_together_and_each_for_itself() -> None:
    names = ["submit-votes-recorded", "submit-votes-broker-away", "assess-login-expired"]
    stored = [WorkflowHistory.from_json(name, (STORED / f"{name}.json").read_text()) for name in names]
    broken = WorkflowHistory.from_json("broken", (STORED / "submit-votes-broker-away.json").read_text())
    broken.events[6].activity_task_scheduled_event_attributes.activity_type.name = "record_votes"
    verdicts = await Replays(WORKFLOWS).judge([stored[0], broken, *stored[1:]])
    assert [found.verdict for found in verdicts] == ["same", "different", "same", "same"]
    assert (verdicts[1].event_id, verdicts[1].recorded) == (7, "activity_task_scheduled record_votes")
    assert verdicts[1].wanted == "activity announce_votes"
