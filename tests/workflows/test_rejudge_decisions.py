"""A period of decisions under another policy: every decision once, whatever is away and wherever it is cut."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.rejudging import READ_MAX, RejudgingActivities, rejudged
from domain.contracts.rejudging import DecisionProcess, RejudgedCounts, RejudgeInput, RejudgementState
from domain.contracts.work import CancelWork
from domain.errors import DomainError, ErrorCode
from domain.ids import derived_id, rejudge_decisions_workflow_id
from domain.login_risk import CURRENT_LOGIN_POLICY, judge_login
from domain.logins import LoginAttempt
from domain.rejudging import judge_under
from domain.replay import Verdict
from tests.domain.test_rejudging import attempt
from tests.workflows.hooked import Hook, hooked_worker, live_with_a_death
from tests.workflows.registration_world import happens, replayed
from workflows.rejudge_decisions import RejudgeDecisionsWorkflow

SINCE = datetime(2026, 5, 7, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=3)
SOON = SINCE + timedelta(hours=1)  # every step of an execution begins with ten minutes
STRICT = '{"version": 2, "challenge_from_permille": 0}'


class Kept:
    """Logins in memory, by when they were; the directory is away for the first `away` calls."""

    def __init__(self, *times: datetime, away: int = 0) -> None:
        self.rows = [at_time(number, at) for number, at in enumerate(sorted(times))]
        self.away = away
        self.asked: list[tuple[datetime, datetime, int | None]] = []

    async def between(self, since: datetime, until: datetime, most: int | None) -> Sequence[LoginAttempt] | None:
        if self.away:
            self.away -= 1
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        self.asked.append((since, until, most))
        found = [row for row in self.rows if since <= row.at < until]
        return None if most is not None and len(found) > most else found


def at_time(number: int, at: datetime) -> LoginAttempt:
    made = attempt()
    return LoginAttempt(
        attempt_id=f"a_eu_{number}",
        voter_id=made.voter_id,
        method=made.method,
        jkt=made.jkt,
        signals=made.signals,
        verdict=judge_login(made.signals, CURRENT_LOGIN_POLICY),
        factors=(),
        outcome=None,
        at=at,
    )


def spread(count: int, since: datetime = SINCE, within: timedelta = UNTIL - SINCE) -> list[datetime]:
    chance = Random(count)
    return [since + within * chance.random() for _ in range(count)]


def soon(count: int) -> list[datetime]:
    return spread(count, SINCE, SOON - SINCE)


async def judged(kept: Kept, since: datetime = SINCE, until: datetime = UNTIL) -> list[tuple[datetime, list[str]]]:
    found = []
    async with aclosing(rejudged(kept, judge_under(DecisionProcess.LOGIN, STRICT), since, until)) as stretches:
        async for end, some in stretches:
            assert {each.verdict for each in some} <= {Verdict.DIFFERENT}
            found.append((end, [each.subject for each in some]))
    return found


@pytest.mark.parametrize(
    "times",
    [
        [],
        [SINCE, UNTIL - timedelta(microseconds=1), UNTIL],
        spread(500),
        [*spread(3 * READ_MAX, SINCE + timedelta(hours=5), timedelta(minutes=1)), *spread(50)],  # a rush
        [SINCE + timedelta(days=1)] * (READ_MAX + 1),  # more in one instant than are read at once
    ],
    ids=["none", "edges", "even", "rush", "one instant"],
)
async def test_every_decision_of_a_period_is_judged_once_in_order_and_never_too_many_are_read(
    times: list[datetime],
) -> None:
    kept = Kept(*times)
    found = await judged(kept)
    assert [subject for _, some in found for subject in some] == [row.attempt_id for row in kept.rows if row.at < UNTIL]
    assert found[-1][0] == UNTIL
    assert [end for end, _ in found] == sorted({end for end, _ in found})
    assert all(most == READ_MAX or until - since <= timedelta(seconds=1) for since, until, most in kept.asked)
    assert len(kept.asked) < 300


async def test_whoever_stops_goes_on_from_the_instant_that_was_reached() -> None:
    kept = Kept(*spread(300), *spread(READ_MAX, SINCE + timedelta(hours=5), timedelta(seconds=20)))
    whole = await judged(kept)
    for stopped in range(0, len(whole), 3):
        rest = await judged(kept, whole[stopped][0])
        first = [subject for _, some in whole[: stopped + 1] for subject in some]
        assert first + [subject for _, some in rest for subject in some] == [row.attempt_id for row in kept.rows]


async def test_a_period_without_length_has_no_decisions() -> None:
    assert await judged(Kept(SINCE), SINCE, SINCE) == []


class World:
    """A comparison and the decisions that it is of."""

    def __init__(self, client: Client, kept: Kept, *, step_s: float = 0.0) -> None:
        self.client = client
        self.queue = f"rejudging-{secrets.token_hex(4)}"
        self.steps: list[str] = []
        self.after: Hook | None = None
        self.kept = kept
        self.activities = RejudgingActivities({DecisionProcess.LOGIN: kept}, step_s=step_s)
        self.id = derived_id("j_eu", secrets.token_hex(8))

    def worker(self) -> Worker:
        return hooked_worker(self, [RejudgeDecisionsWorkflow], self.activities.all())

    async def start(self, policy: str = STRICT) -> WorkflowHandle[RejudgeDecisionsWorkflow, RejudgementState]:
        request = RejudgeInput(
            rejudgement_id=self.id,
            cell="eu",
            process=DecisionProcess.LOGIN,
            since=SINCE,
            until=SOON,
            policy=policy,
        )
        return await self.client.start_workflow(
            RejudgeDecisionsWorkflow.run,
            request,
            id=rejudge_decisions_workflow_id("eu", self.id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    async def ended(self, name: str = "") -> RejudgementState:
        async with asyncio.timeout(60), self.worker():
            handle = await self.start()
            state = await handle.result()
            assert await handle.query(RejudgeDecisionsWorkflow.state) == state
        await replayed(handle, name and f"rejudge-decisions-{name}")
        return state


def all_of(kept: Kept) -> tuple[datetime, int, int]:
    return SOON, len(kept.rows), 0


def reached(state: RejudgementState) -> tuple[datetime, int, int]:
    counts: RejudgedCounts = state.counts
    return state.judged_until, counts.different, counts.same + counts.cannot


async def test_a_period_is_gone_through_step_by_step(client: Client) -> None:
    kept = Kept(*soon(40))
    world = World(client, kept)
    state = await world.ended("finished")
    assert reached(state) == all_of(kept)
    assert [(change.before, change.after, change.count) for change in state.counts.changes] == [
        ("ALLOW", "CHALLENGE", 40)
    ]
    assert len(world.steps) > 3
    stretches = [(since, until) for since, until, _ in kept.asked]
    assert all(before[1] == after[0] for before, after in pairwise(stretches))
    at_once = World(client, Kept(*soon(40)), step_s=5.0)
    assert (await at_once.ended()).counts == state.counts
    assert len(at_once.steps) == 1


async def test_it_says_how_far_it_is_and_waits_for_what_is_away(client: Client) -> None:
    kept = Kept(*soon(10), away=10**6)
    world = World(client, kept)
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await happens(lambda: kept.away < 10**6)
        waiting = await handle.query(RejudgeDecisionsWorkflow.state)
        assert (waiting.judged_until, waiting.counts) == (SINCE, RejudgedCounts())
        kept.away = 0
        assert reached(await handle.result()) == all_of(kept)
    await replayed(handle, "rejudge-decisions-directory-away")


async def test_what_is_no_policy_ends_it(client: Client) -> None:
    world = World(client, Kept())
    async with asyncio.timeout(60), world.worker():
        handle = await world.start('{"version": 77}')
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    assert isinstance(failed.value.cause, ActivityError)
    assert isinstance(failed.value.cause.cause, ApplicationError)
    assert failed.value.cause.cause.type == ErrorCode.MALFORMED_REQUEST
    await replayed(handle, "rejudge-decisions-no-policy")


@pytest.mark.parametrize("step", [1, 3])
async def test_a_step_that_is_done_twice_is_counted_once(client: Client, step: int) -> None:
    kept = Kept(*soon(30))
    world = World(client, kept)
    handle = await world.start()
    async with asyncio.timeout(60):
        await live_with_a_death(world, step, handle.result())
    assert reached(await handle.result()) == all_of(kept)


async def test_what_an_earlier_run_has_judged_is_gone_on_from(client: Client) -> None:
    kept = Kept(*soon(30))
    half = SINCE + (SOON - SINCE) / 2
    before = [row for row in kept.rows if row.at < half]
    world = World(client, kept)
    earlier = RejudgementState(
        rejudgement_id=world.id,
        process=DecisionProcess.LOGIN,
        since=SINCE,
        until=SOON,
        judged_until=half,
        counts=RejudgedCounts(same=len(before)),
    )
    request = RejudgeInput(
        rejudgement_id=world.id,
        cell="eu",
        process=DecisionProcess.LOGIN,
        since=SINCE,
        until=SOON,
        policy=STRICT,
        state=earlier,
    )
    async with asyncio.timeout(60), world.worker():
        state = await client.execute_workflow(
            RejudgeDecisionsWorkflow.run,
            request,
            id=rejudge_decisions_workflow_id("eu", world.id),
            task_queue=world.queue,
        )
    assert reached(state) == (SOON, len(kept.rows) - len(before), len(before))


OFFICER = CancelWork(actor="staff:u_eu_x", role="compliance")


async def test_it_is_cancelled_while_it_waits_for_what_is_away(client: Client) -> None:
    kept = Kept(*soon(10), away=10**6)
    world = World(client, kept)
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await happens(lambda: kept.away < 10**6)
        ended = await handle.execute_update(RejudgeDecisionsWorkflow.cancel, OFFICER)
        assert (ended.is_cancelled, ended.judged_until) == (True, SINCE)
        assert await handle.result() == ended
    await replayed(handle, "rejudge-decisions-cancelled")


async def test_what_was_judged_before_it_was_cancelled_stays_and_no_more_is_judged(client: Client) -> None:
    kept = Kept(*soon(40))
    world = World(client, kept)
    reached_step, go_on = asyncio.Event(), asyncio.Event()

    async def stall(_name: str) -> None:
        if len(world.steps) == 3:
            reached_step.set()
            await go_on.wait()

    world.after = stall
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        await reached_step.wait()
        before = await handle.query(RejudgeDecisionsWorkflow.state)
        answers = await asyncio.gather(
            *(handle.execute_update(RejudgeDecisionsWorkflow.cancel, OFFICER, id="cancel") for _ in range(3))
        )
        go_on.set()
        ended = await handle.result()
        assert {each.judged_until for each in answers} == {before.judged_until}
        assert ended == before.model_copy(update={"is_cancelled": True})
        assert 0 < ended.counts.different < 40
    assert len(world.steps) == 3
    await replayed(handle)


async def test_what_has_ended_is_not_cancelled(client: Client) -> None:
    world = World(client, Kept())
    async with asyncio.timeout(60), world.worker():
        handle = await world.start()
        assert not (await handle.result()).is_cancelled
        with pytest.raises(RPCError) as refused:
            await handle.execute_update(RejudgeDecisionsWorkflow.cancel, OFFICER)
        assert refused.value.status is RPCStatusCode.NOT_FOUND
