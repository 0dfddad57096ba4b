"""Timelines of processes: their histories, and those of the processes that they started, as steps.

A history that the server has dropped is read out of the archive, where that may be read.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from temporalio.client import WorkflowHistory

from domain.archive_ports import HistoryPlace
from domain.cases import HistorySource, Standing, Step, StepKind, Timeline
from domain.errors import DomainError, ErrorCode
from domain.signatures import Signatures
from integrations.temporal.histories import Histories
from integrations.temporal.standings import Standings
from integrations.temporal.steps import StepReader

NOT_READ_HERE: Final = "not_read_here"
_PROCESSES_MAX: Final = 20  # that one process may have started
# What keeps one history from being read, and is no reason to say nothing of the others
_GAPS: Final = frozenset({ErrorCode.KEY_DESTROYED, ErrorCode.OBJECTS_UNAVAILABLE, ErrorCode.ARCHIVE_CONTRADICTED})


class ArchivePlaces(Protocol):
    """Where histories are archived. Raises DomainError `audit_log_unavailable`."""

    async def place(self, workflow_id: str, run_id: str = "") -> HistoryPlace | None:
        """Return where a run's history is, that of the newest one without `run_id`; None where nothing is noted."""
        ...


class ArchivedAt(Protocol):
    """The archive's files."""

    async def at(self, place: HistoryPlace) -> tuple[WorkflowHistory, bool]:
        """Return a history, and whether its payloads could be opened.

        Raises:
            DomainError: `objects_unavailable`, `archive_contradicted`, `key_unavailable`.
        """
        ...


class Timelines:
    """Reads the timelines of one namespace; writes nothing and asks no process anything."""

    def __init__(
        self,
        histories: Histories,
        standings: Standings,
        signatures: Signatures,
        places: ArchivePlaces | None = None,
        archive: ArchivedAt | None = None,
    ) -> None:
        """Without `archive`, of what `places` knows it is said that it is there; without `places`, nothing."""
        self._histories = histories
        self._standings = standings
        self._signatures = signatures
        self._places = places
        self._archive = archive

    async def of(self, workflow_id: str, run_id: str = "") -> Timeline | None:
        """Return the steps of a process and of those that it started, oldest first; None where it is gone.

        Attempts of what is still tried are those of now.

        Raises:
            DomainError: `workflows_unavailable`, `audit_log_unavailable`, `key_unavailable`, `key_destroyed`.
        """
        history, standing = await asyncio.gather(
            self._histories.read(workflow_id, run_id), self._standings.of(workflow_id)
        )
        if history is None:
            return await self._archived(workflow_id, run_id)
        reader = StepReader(history, self._signatures)
        return await self._joined(with_attempts_of_now(reader.steps(), standing), reader)

    async def of_batch(self, history: WorkflowHistory) -> tuple[Step, ...]:
        """Return the steps of a batch of votes from a history whose payloads are sealed: names and instants alone."""
        standing = await self._standings.of(history.workflow_id)
        return tuple(with_attempts_of_now(StepReader(history, Signatures()).steps(), standing))

    async def _archived(self, workflow_id: str, run_id: str) -> Timeline | None:
        place = None if self._places is None else await self._places.place(workflow_id, run_id)
        if place is None or place.left_out:
            return None
        if self._archive is None:
            return Timeline((), {workflow_id: NOT_READ_HERE})
        try:
            history, is_opened = await self._archive.at(place)
        except DomainError as error:
            if error.code not in _GAPS:
                raise
            return Timeline((), {workflow_id: error.code.value})
        reader = StepReader(history, self._signatures)
        steps = [replace(step, source=HistorySource.ARCHIVE) for step in reader.steps()]
        gaps = {} if is_opened else {workflow_id: ErrorCode.KEY_DESTROYED.value}
        return await self._joined(steps, reader, gaps)

    async def _joined(self, own: Sequence[Step], reader: StepReader, gaps: dict[str, str] | None = None) -> Timeline:
        """Return a process's own steps among those of the processes that it started."""
        steps, missing = list(own), dict(gaps or {})
        begun = reader.children[:_PROCESSES_MAX]
        for found in await asyncio.gather(*(self.of(child, run) for child, run in begun)):
            if found is not None:
                steps += found.steps
                missing |= found.gaps
        return Timeline(tuple(sorted(steps, key=lambda step: step.at)), missing)


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
