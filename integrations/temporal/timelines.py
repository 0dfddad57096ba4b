"""Timelines of processes: their histories, and those of the processes that they started, as steps."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from temporalio.client import WorkflowHistory

from domain.cases import Standing, Step, StepKind
from domain.signatures import Signatures
from integrations.temporal.histories import Histories
from integrations.temporal.standings import Standings
from integrations.temporal.steps import StepReader

_PROCESSES_MAX: Final = 20  # that one process may have started


class Timelines:
    """Reads the timelines of one namespace; writes nothing and asks no process anything."""

    def __init__(self, histories: Histories, standings: Standings, signatures: Signatures) -> None:
        self._histories = histories
        self._standings = standings
        self._signatures = signatures

    async def of(self, workflow_id: str, run_id: str = "") -> tuple[Step, ...] | None:
        """Return the steps of a process and of those that it started, oldest first; None where it is gone.

        Attempts of what is still tried are those of now.

        Raises:
            DomainError: `workflows_unavailable`, `key_unavailable`, `key_destroyed`.
        """
        history, standing = await asyncio.gather(
            self._histories.read(workflow_id, run_id), self._standings.of(workflow_id)
        )
        if history is None:
            return None
        reader = StepReader(history, self._signatures)
        steps = list(with_attempts_of_now(reader.steps(), standing))
        begun = reader.children[:_PROCESSES_MAX]
        for found in await asyncio.gather(*(self.of(child, run) for child, run in begun)):
            steps += found or ()
        return tuple(sorted(steps, key=lambda step: step.at))

    async def of_batch(self, history: WorkflowHistory) -> tuple[Step, ...]:
        """Return the steps of a batch of votes from a history whose payloads are sealed: names and instants alone."""
        standing = await self._standings.of(history.workflow_id)
        return tuple(with_attempts_of_now(StepReader(history, Signatures()).steps(), standing))


def with_attempts_of_now(steps: Sequence[Step], standing: Standing | None) -> Sequence[Step]:
    """Return the steps, those that are still tried with what Temporal knows of their attempts: it is in no history."""
    if standing is None:
        return steps
    waiting = {activity.name: activity for activity in standing.pending}

    def one(step: Step) -> Step:
        pending = waiting.get(step.name)
        if pending is None or step.kind is not StepKind.ACTIVITY or step.ended_at is not None:
            return step
        return replace(step, attempts=pending.attempts, code=pending.code, until=pending.again_at)

    return [one(step) for step in steps]
