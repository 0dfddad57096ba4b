"""Replays executions step by step and keeps the verdicts; nothing of what they decide is carried out."""

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from temporalio import activity

from activities.failures import to_application_error
from activities.stretches import stretches
from domain.contracts.replays import EndReplay, ReplayInput, ReplayState, ReplayStep
from domain.errors import DomainError
from domain.replay import ReplayVerdict
from domain.replay_ports import ExecutionJudge, ReplayRecords

READ_MAX: Final = 500  # executions at once
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
                verdict = await self._judge.one(request)
                return await self._records.record(step, None, [verdict])
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

        async def between(begin: datetime, end: datetime, most: int | None) -> Sequence[ReplayVerdict] | None:
            return await self._judge.between(request, begin, end, most)

        async with aclosing(stretches(between, since, request.until, READ_MAX)) as parts:
            async for until, found in parts:
                reached = until
                verdicts += found
                if time.monotonic() >= ends or len(verdicts) >= _KEPT_MAX:
                    break
        return reached, verdicts
