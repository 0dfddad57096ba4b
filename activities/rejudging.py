"""Judges recorded decisions again, stretch by stretch of time; reads, and calls nobody."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from temporalio import activity

from activities.failures import to_application_error
from activities.stretches import stretches
from domain.contracts.rejudging import DecisionProcess, RejudgedCounts, RejudgedDecision, RejudgedPart, RejudgeStep
from domain.errors import DomainError, ErrorCode
from domain.rejudging import Judge, Kept, KeptDecisions, joined, judge_under, part_of

READ_MAX: Final = 2_000  # decisions at once
_AT_ONCE: Final = 50  # judged before others have their turn: logins wait in the same process
_STEP_S: Final = 5.0


class RejudgingActivities:
    """Compares the decisions of one cell; holds the ports so that a test can pass its own."""

    def __init__(self, kept: Mapping[DecisionProcess, KeptDecisions], *, step_s: float = _STEP_S) -> None:
        """`step_s` is for how long one step goes on before it reports."""
        self._kept = kept
        self._step_s = step_s

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.rejudge_decisions]

    @activity.defn(name="rejudge_decisions")
    async def rejudge_decisions(self, step: RejudgeStep) -> RejudgedPart:
        """Judge as much of a stretch as some seconds are enough for, from its beginning. Safe to repeat: it only reads.

        Raises:
            ApplicationError: `malformed_request` for what is no policy; `directory_unavailable`,
                `workflows_unavailable`, `key_unavailable` (retried).
        """
        ends = time.monotonic() + self._step_s
        part = RejudgedPart(until=step.since, counts=RejudgedCounts())
        try:
            judge = judge_under(step.process, step.policy)
        except ValueError as error:
            raise to_application_error(DomainError(ErrorCode.MALFORMED_REQUEST, "no policy")) from error
        try:
            async with aclosing(rejudged(self._kept[step.process], judge, step.since, step.until)) as stretches:
                async for until, found in stretches:
                    part = joined(part, part_of(until, found))
                    if time.monotonic() >= ends:
                        break
        except DomainError as error:
            raise to_application_error(error) from error
        return part


async def rejudged(
    kept: KeptDecisions, judge: Judge, since: datetime, until: datetime
) -> AsyncGenerator[tuple[datetime, list[RejudgedDecision]]]:
    """Return the decisions of a period, judged again, stretch by stretch: all before the instant beside them.

    Whoever stops may go on from that instant.

    Raises:
        DomainError: what the decisions are read from is away.
    """
    async with aclosing(stretches(kept.between, since, until, READ_MAX)) as found:
        async for reached, some in found:
            yield reached, await _judged(judge, some)


async def _judged(judge: Judge, found: Sequence[Kept]) -> list[RejudgedDecision]:
    judged: list[RejudgedDecision] = []
    for first in range(0, len(found), _AT_ONCE):
        judged += map(judge, found[first : first + _AT_ONCE])
        await asyncio.sleep(0)
    return judged
