"""A period of executions replayed: every verdict kept once, whatever is away, and none of a step that was dropped."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.replaying import READ_MAX, ReplayActivities, parts
from domain.audit import AuditEntry
from domain.contracts.replays import ReplayInput, ReplayState, ReplayStep
from domain.contracts.work import CancelWork, WorkStage
from domain.errors import DomainError, ErrorCode
from domain.ids import derived_id, replay_executions_workflow_id
from domain.replay import Execution, ReplayCode, ReplayVerdict, Verdict
from domain.replay_ports import KeptVerdict
from tests.workflows.hooked import Hook, hooked_worker, live_with_a_death
from tests.workflows.registration_world import happens, replayed
from tests.workflows.test_rejudge_decisions import SINCE, SOON, soon, spread
from workflows.replay_executions import ReplayExecutionsWorkflow

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OFFICER = CancelWork(actor="staff:u_eu_x", role="compliance")


class Executions:
    """Executions by when they started; the server is away for the first `away` calls.

    Each has so many `events`, and more than so many `at_once` do not end in time.
    """

    def __init__(self, *times: datetime, away: int = 0, events: int = 10, at_once: int = 1000) -> None:
        self.times = sorted(times)
        self.away, self.events, self.at_once = away, events, at_once
        self.asked: list[tuple[datetime, datetime]] = []
        self.requests: list[ReplayInput] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def started(
        self, _request: ReplayInput, since: datetime, until: datetime, most: int | None
    ) -> Sequence[Execution] | None:
        if self.before is not None:
            await self.before()
        self._pass()
        self.asked.append((since, until))
        found = [at for at in self.times if since <= at < until]
        if most is not None and len(found) > most:
            return None
        return [Execution(at.isoformat(), "", "", at, self.events) for at in reversed(found)]

    async def judge(self, request: ReplayInput, executions: Sequence[Execution]) -> list[ReplayVerdict]:
        self.requests.append(request)
        if request.workflow_id:
            self._pass()
            return [self._verdict(request, request.workflow_id, "SubmitVotes")]
        if len(executions) > self.at_once:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "the replay did not end")
        return [self._verdict(request, each.workflow_id, request.workflow_type) for each in executions]

    def _verdict(self, request: ReplayInput, workflow_id: str, kind: str) -> ReplayVerdict:
        code = "then" if request.code is ReplayCode.RECORDED else ""
        return ReplayVerdict(workflow_id, request.run_id or request.namespace, kind, Verdict.SAME, code=code)

    def _pass(self) -> None:
        if self.away:
            self.away -= 1
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE)


class Records:
    """One replay and its verdicts, as the database keeps them."""

    def __init__(self, request: ReplayInput) -> None:
        self.state = ReplayState(request=request, asked_by="staff:u_eu_x", asked_at=NOW, judged_until=request.since)
        self.kept: list[ReplayVerdict] = []

    async def record(self, step: ReplayStep, until: datetime | None, verdicts: Sequence[ReplayVerdict]) -> ReplayState:
        if (step.number, self.state.stage) == (self.state.steps, WorkStage.RUNNING):
            self.kept += verdicts
            told = {"steps": step.number + 1, "judged_until": until, "same": len(self.kept)}
            self.state = self.state.model_copy(update=told)
        return self.state

    async def end(self, replay_id: str, stage: WorkStage) -> ReplayState:
        assert replay_id == self.state.request.replay_id
        if self.state.stage is WorkStage.RUNNING:
            self.state = self.state.model_copy(update={"stage": stage, "ended_at": NOW})
        return self.state

    async def ask(self, request: ReplayInput, entry: AuditEntry) -> ReplayState:
        raise AssertionError

    async def find(self, replay_id: str) -> ReplayState | None:
        raise AssertionError

    async def newest(self, before: tuple[datetime, str] | None, limit: int) -> Sequence[ReplayState]:
        raise AssertionError

    async def verdicts(self, replay_id: str, after: int, limit: int, only: Verdict | None = None) -> list[KeptVerdict]:
        raise AssertionError


class World:
    """A replay and what it is of."""

    def __init__(self, client: Client, executions: Executions, *, step_s: float = 0.0, **order: Any) -> None:
        self.client = client
        self.queue = f"replaying-{secrets.token_hex(4)}"
        self.steps: list[str] = []
        self.after: Hook | None = None
        period = {} if order else {"since": SINCE, "until": SOON}
        replay_id = derived_id("w_eu", secrets.token_hex(8))
        self.request = ReplayInput(replay_id=replay_id, cell="eu", namespace="eu", **(order or period))
        self.records, self.executions = Records(self.request), executions
        self.activities = ReplayActivities(self.records, executions, step_s=step_s)

    def worker(self) -> Worker:
        return hooked_worker(self, [ReplayExecutionsWorkflow], self.activities.all())

    async def start(self, **order: Any) -> WorkflowHandle[ReplayExecutionsWorkflow, ReplayState]:
        return await self.client.start_workflow(
            ReplayExecutionsWorkflow.run,
            self.request.model_copy(update=order),
            id=replay_executions_workflow_id("eu", self.request.replay_id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    @property
    def kept(self) -> list[str]:
        return [verdict.workflow_id for verdict in self.records.kept]


def names(executions: Executions) -> list[str]:
    return [at.isoformat() for at in executions.times]


async def test_a_period_is_gone_through_step_by_step(client: Client) -> None:
    world = World(client, Executions(*soon(40)))
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        state = await handle.result()
    assert (state.stage, state.judged_until, state.same) == (WorkStage.FINISHED, SOON, 40)
    assert world.kept == names(world.executions)
    assert len(world.steps) > 3
    await replayed(handle, "replay-executions-period")


async def test_one_execution_is_one_step(client: Client) -> None:
    world = World(client, Executions(away=1), workflow_id="submit-votes/eu/x-1")
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        assert (await handle.result()).stage is WorkStage.FINISHED
        with pytest.raises(Exception, match=r"completed|not found"):
            await handle.execute_update(ReplayExecutionsWorkflow.cancel, OFFICER)
    assert (world.kept, world.steps) == (["submit-votes/eu/x-1"], ["replay_executions", "end_replay"])
    await replayed(handle, "replay-executions-one")


async def test_more_than_is_read_at_once_is_judged_in_parts(client: Client) -> None:
    executions = Executions(*spread(3 * READ_MAX, SINCE, timedelta(minutes=2)))
    world = World(client, executions, step_s=5)
    async with asyncio.timeout(60), world.worker():
        state = await (await world.start()).result()
    assert (state.same, state.steps) == (3 * READ_MAX, 1)
    assert world.kept == names(executions)


@pytest.mark.parametrize(("events", "at_once"), [(10_000, 2), (10, 100), (1000, 1)], ids=str)
async def test_long_histories_are_judged_by_fewer_and_it_goes_on(client: Client, events: int, at_once: int) -> None:
    executions = Executions(*spread(5, SINCE, timedelta(minutes=1)), events=events, at_once=at_once)
    world = World(client, executions)
    async with asyncio.timeout(60), world.worker():
        state = await (await world.start()).result()
    assert (state.stage, state.same) == (WorkStage.FINISHED, 5)
    assert world.kept == names(executions)


def test_parts_have_so_many_events_and_what_began_at_once_together() -> None:
    first, second, third = (SINCE + timedelta(minutes=minute) for minute in range(3))
    found = [
        Execution(name, "", "T", at, events)
        for name, at, events in (
            ("d", third, 10),
            ("b", second, 60),
            ("c", second, 60),
            ("a", first, 0),
        )
    ]
    told = [([each.workflow_id for each in part], until) for part, until in parts(found, SOON, 100)]
    assert told == [(["a"], second), (["b", "c"], third), (["d"], SOON)]
    assert list(parts([], SOON, 100)) == []


@pytest.mark.parametrize("step", [1, 3])
async def test_a_step_that_is_done_twice_is_kept_once(client: Client, step: int) -> None:
    world = World(client, Executions(*soon(30)))
    handle = await world.start()
    async with asyncio.timeout(60):
        await live_with_a_death(world, step, handle.result())
    assert (await handle.result()).same == 30
    assert world.kept == names(world.executions)


async def test_it_is_cancelled_while_it_waits_for_what_is_away(client: Client) -> None:
    world = World(client, Executions(*soon(10), away=10**6))
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await happens(lambda: world.executions.away < 10**6)
        answers = await asyncio.gather(
            *(handle.execute_update(ReplayExecutionsWorkflow.cancel, OFFICER) for _ in range(3))
        )
        assert {each.stage for each in answers} == {WorkStage.CANCELLED}
        assert (await handle.result()).stage is WorkStage.CANCELLED
    assert (world.kept, world.records.state.stage) == ([], WorkStage.CANCELLED)
    await replayed(handle, "replay-executions-cancelled")


async def test_what_was_noted_as_finished_is_not_said_to_be_cancelled(client: Client) -> None:
    world = World(client, Executions(*soon(10), away=10**6))
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await happens(lambda: world.executions.away < 10**6)
        await world.records.end(world.request.replay_id, WorkStage.FINISHED)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(ReplayExecutionsWorkflow.cancel, OFFICER)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.WORK_ENDED
        assert (await handle.result()).stage is WorkStage.FINISHED


async def test_of_a_step_that_was_dropped_nothing_is_kept(client: Client) -> None:
    world = World(client, Executions(*soon(40)))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def stall() -> None:
        if len(world.steps) == 2:
            begun.set()
            await go_on.wait()

    world.executions.before = stall
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await begun.wait()
        before = list(world.kept)
        state = await handle.execute_update(ReplayExecutionsWorkflow.cancel, OFFICER)
        go_on.set()
        await happens(lambda: world.steps.count("replay_executions") == 3)  # what it had judged meanwhile
    assert (state.stage, state.same) == (WorkStage.CANCELLED, len(before))
    assert 0 < len(before) < 40
    assert world.kept == before
    await replayed(handle)


async def test_what_is_judged_to_its_end_is_not_cancelled(client: Client) -> None:
    world = World(client, Executions(), workflow_id="submit-votes/eu/x-1")
    ending = asyncio.Event()

    async def stall(name: str) -> None:
        if name == "end_replay":
            ending.set()
            await asyncio.Event().wait()

    world.after = stall
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await ending.wait()
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(ReplayExecutionsWorkflow.cancel, OFFICER)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.WORK_ENDED
    assert world.records.state.stage is WorkStage.FINISHED


async def test_what_an_earlier_run_has_judged_is_gone_on_from(client: Client) -> None:
    world = World(client, Executions(*soon(30)))
    half = SINCE + (SOON - SINCE) / 2
    world.records.state = world.records.state.model_copy(update={"steps": 5, "judged_until": half})
    async with asyncio.timeout(60), world.worker():
        await (await world.start(steps=5, judged_until=half)).result()
    assert world.kept == [at.isoformat() for at in world.executions.times if at >= half]
