"""Replays executions step by step and keeps the verdicts; nothing of what they decide is carried out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from temporalio import activity

from activities.failures import to_application_error
from activities.stretches import stretches
from domain.contracts.replays import EndReplay, ReplayInput, ReplayState, ReplayStep
from domain.errors import DomainError
from domain.replay import Execution, ReplayVerdict
from domain.replay_ports import ExecutionJudge, ReplayRecords

READ_MAX: Final = 500  # executions at once
_EVENTS_MAX: Final = 20_000  # of what is judged at once: seconds, or tens of them
_EVENTS_GUESSED: Final = 500  # of an execution that is open still
_KEPT_MAX: Final = 2_000  # verdicts of one step, or few more: one transaction
_STEP_S: Final = 5.0


class ReplayActivities:
    """Replays for one cell's officers; holds the ports so that a test can pass its own."""

    def __init__(self, records: ReplayRecords, judge: ExecutionJudge, *, step_s: float = _STEP_S) -> None:
        """`step_s` is for how long one step goes on before its verdicts are kept."""
        self._records = records
        self._judge = judge
        self._step_s = step_s

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.replay_executions, self.end_replay]

    @activity.defn(name="replay_executions")
    async def replay_executions(self, step: ReplayStep) -> ReplayState:
        """Judge as much as some seconds are enough for, and keep the verdicts: of each step once, all or none.

        Safe to repeat: of a step that is kept already, and of a replay that has ended, nothing more is kept.

        Raises:
            ApplicationError: `not_found`; `directory_unavailable`, `workflows_unavailable`, `key_unavailable`,
                `objects_unavailable`, `audit_log_unavailable` (retried).
        """
        request = step.request
        try:
            if request.workflow_id:
                one = Execution(request.workflow_id, request.run_id, "")
                return await self._records.record(step, None, await self._judge.judge(request, [one]))
            until, verdicts = await self._period(request, step.since)
            return await self._records.record(step, until, verdicts)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="end_replay")
    async def end_replay(self, end: EndReplay) -> ReplayState:
        """Note how a replay has ended. Safe to repeat: the first one stays.

        Raises:
            ApplicationError: `not_found`; `directory_unavailable` (retried).
        """
        try:
            return await self._records.end(end.request.replay_id, end.stage)
        except DomainError as error:
            raise to_application_error(error) from error

    async def _period(
        self, request: ReplayInput, since: datetime | None
    ) -> tuple[datetime | None, Sequence[ReplayVerdict]]:
        """Return verdicts on what started from `since` on, and the instant before which all is judged."""
        assert since is not None
        assert request.until is not None
        ends, verdicts, reached = time.monotonic() + self._step_s, list[ReplayVerdict](), since

        async def started(begin: datetime, end: datetime, most: int | None) -> Sequence[Execution] | None:
            return await self._judge.started(request, begin, end, most)

        async with aclosing(stretches(started, since, request.until, READ_MAX)) as found:
            async for until, executions in found:
                for part, reached in parts(executions, until, _at_once()):
                    verdicts += await self._judge.judge(request, part)
                    if time.monotonic() >= ends or len(verdicts) >= _KEPT_MAX:
                        return reached, verdicts
                reached = until
        return reached, verdicts


def parts(
    executions: Sequence[Execution], until: datetime, most: int
) -> Iterator[tuple[Sequence[Execution], datetime]]:
    """Return executions that started before `until` in parts of so many events, or of one execution that has more.

    Beside each part is an instant: it and those before have all that started before it.
    """
    part, events = list[Execution](), 0
    for execution in sorted(executions, key=_started_at):
        its_own = execution.events or _EVENTS_GUESSED
        if part and events + its_own > most and _started_at(part[-1]) < _started_at(execution):
            yield part, _started_at(execution)
            part, events = [], 0
        part.append(execution)
        events += its_own
    if part:
        yield part, until


def _started_at(execution: Execution) -> datetime:
    assert execution.started_at is not None
    return execution.started_at


def _at_once() -> int:
    """Return how many events are judged at once: fewer each time that it is tried, so that it ends at some time."""
    return max(1, _EVENTS_MAX >> 3 * (activity.info().attempt - 1))
