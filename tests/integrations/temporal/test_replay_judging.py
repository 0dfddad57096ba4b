"""Whoever judges for the console waits for what is away, and says why of what never can be said."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.client import WorkflowHistory

from domain.contracts.replays import ReplayInput
from domain.errors import DomainError, ErrorCode
from domain.replay import NOT_ENDED, Execution, ReplayCode, Verdict
from integrations.temporal.codec import PayloadChangedError
from integrations.temporal.replay_code import OneCode
from integrations.temporal.replay_judging import PooledJudge
from integrations.temporal.replay_pool import pages_of
from integrations.temporal.replay_releases import Code
from workflows.registry import WORKFLOWS

STORED = Path(__file__).parents[2] / "replay" / "histories"
SINCE = datetime(2026, 5, 7, tzinfo=UTC)
UNTIL = SINCE + timedelta(hours=1)
PERIOD = ReplayInput(replay_id="w_eu_x", cell="eu", namespace="eu", since=SINCE, until=UNTIL)


class Stored:
    """One stored history as several executions; of each in turn a failure, or the history."""

    def __init__(self, *failures: DomainError | None) -> None:
        self.failures = list(failures)
        self.names = [f"submit-votes/eu/{number}" for number in range(len(failures))]
        self._text = (STORED / "submit-votes-recorded.json").read_text()

    async def of(self, _: str, *, archived: bool) -> "Stored":
        return self

    async def read(self, workflow_id: str, _run_id: str = "") -> WorkflowHistory | None:
        failure = self.failures[self.names.index(workflow_id)]
        if failure is not None:
            raise failure
        return WorkflowHistory.from_json(workflow_id, self._text)

    async def started(self, *_: object) -> AsyncIterator[Execution]:
        for name in self.names:
            yield Execution(name, "", "SubmitVotes")


def make(_: ReplayCode) -> OneCode:
    return OneCode(Code("now"), WORKFLOWS, 1)


def judge_of(histories: Stored, within_s: float = 60) -> PooledJudge:
    return PooledJudge(cast("Any", histories), make, within_s=within_s)


async def found_by(judge: PooledJudge) -> Sequence[Execution]:
    found = await judge.started(PERIOD, SINCE, UNTIL, None)
    assert found is not None
    assert await judge.started(PERIOD, SINCE, UNTIL, len(found) - 1) is None
    return found


@pytest.mark.parametrize("code", [ErrorCode.KEY_UNAVAILABLE, ErrorCode.OBJECTS_UNAVAILABLE])
async def test_what_is_away_is_no_verdict_and_is_tried_again(code: ErrorCode) -> None:
    stored = Stored(None, DomainError(code))
    judge = judge_of(stored)
    try:
        with pytest.raises(DomainError) as failed:
            await judge.judge(PERIOD, await found_by(judge))
        assert failed.value.code is code
        stored.failures[1] = None
        found = await judge.judge(PERIOD, await found_by(judge))
        assert [verdict.verdict for verdict in found] == [Verdict.SAME, Verdict.SAME]
    finally:
        judge.close()


async def test_what_never_can_be_read_says_why() -> None:
    judge = judge_of(Stored(None, PayloadChangedError(), DomainError(ErrorCode.KEY_DESTROYED)))
    try:
        found = await judge.judge(PERIOD, await found_by(judge))
    finally:
        judge.close()
    assert sorted(verdict.why for verdict in found) == ["", "key_destroyed", "key_unavailable"]


async def test_of_several_that_do_not_end_fewer_may_be_asked_for_and_one_is_said_not_to_end() -> None:
    judge = judge_of(Stored(None, None), within_s=0)
    found = await found_by(judge)
    with pytest.raises(DomainError) as failed:
        await judge.judge(PERIOD, found)
    assert failed.value.code is ErrorCode.WORKFLOWS_UNAVAILABLE
    (verdict,) = await judge.judge(PERIOD, found[:1])
    assert (verdict.verdict, verdict.why, verdict.workflow_id) == (Verdict.CANNOT, NOT_ENDED, found[0].workflow_id)


async def test_pages_of_long_histories_are_short() -> None:
    async def each(*events: int) -> AsyncIterator[Execution]:
        for number in events:
            yield Execution("w", "", "T", events=number)

    told = [[each.events for each in page] async for page in pages_of(each(3000, 2000, 50_000, 10))]
    assert told == [[3000, 2000], [50_000], [10]]
    assert [len(page) async for page in pages_of(each(*[10] * 250))] == [100, 100, 50]
