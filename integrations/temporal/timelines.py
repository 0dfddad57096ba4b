"""Timelines of cases: the histories of their processes, and of those that these started, as steps.

A history that the server has dropped is read out of the archive, where that may be read.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from temporalio.client import WorkflowHistory

from domain.archive_ports import HistoryPlace
from domain.cases import HistorySource, Standing, Step, StepKind, Timeline
from domain.errors import DomainError, ErrorCode
from domain.signatures import Signatures
from integrations.temporal.histories import Histories
from integrations.temporal.runs import Runs
from integrations.temporal.standings import Standings
from integrations.temporal.steps import StepReader

NOT_READ_HERE: Final = "not_read_here"
HISTORY_GONE: Final = "history_gone"
TOO_MANY: Final = "too_many"
_TRIED: Final = frozenset({StepKind.ACTIVITY, StepKind.TASK})
_PROCESSES_MAX: Final = 50  # of one case
# What keeps one history from being read, and is no reason to say nothing of the others
_GAPS: Final = frozenset({ErrorCode.KEY_DESTROYED, ErrorCode.OBJECTS_UNAVAILABLE, ErrorCode.ARCHIVE_CONTRADICTED})


class ArchivedAt(Protocol):
    """The archive's files."""

    async def at(self, place: HistoryPlace) -> tuple[WorkflowHistory, bool]:
        """Return a history, and whether its payloads could be opened.

        Raises:
            DomainError: `objects_unavailable`, `archive_contradicted`, `key_unavailable`.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """What is read of a run; `why` there is less than there was, `begun` the workflow and run of each child."""

    steps: Sequence[Step] = ()
    begun: Sequence[tuple[str, str]] = ()
    why: str = ""
    is_on_server: bool = False


@dataclass
class _Reading:
    """A case while it is read: its steps, what is missing, and the processes to read, with the runs that are known."""

    waiting: dict[str, set[str]]
    steps: list[Step] = field(default_factory=list)
    gaps: dict[str, str] = field(default_factory=dict)
    known: dict[str, set[str]] = field(default_factory=dict)

    def take(self) -> dict[str, set[str]]:
        """Return what waits, which is known from now on."""
        taken, self.waiting = self.waiting, {}
        for workflow_id, runs in taken.items():
            self.known.setdefault(workflow_id, set()).update(runs)
        return taken

    def add(self, workflow_id: str, reads: Sequence[_Read]) -> None:
        for read in reads:
            self.steps += read.steps
            if read.why:
                self.gaps[workflow_id] = read.why
            for child, run in read.begun:
                if child in self.known:
                    continue
                if len(self.known) + len(self.waiting) >= _PROCESSES_MAX and child not in self.waiting:
                    self.gaps[child] = TOO_MANY
                else:
                    self.waiting.setdefault(child, set()).add(run)


class Timelines:
    """Reads the timelines of one namespace; writes nothing and asks no process anything."""

    def __init__(
        self,
        histories: Histories,
        runs: Runs,
        standings: Standings,
        signatures: Signatures,
        archive: ArchivedAt | None = None,
    ) -> None:
        """Without `archive`, of what `runs` knows to be archived it is said that it is there."""
        self._histories = histories
        self._runs = runs
        self._standings = standings
        self._signatures = signatures
        self._archive = archive

    async def of(self, workflow_id: str, beside: Mapping[str, bool] | None = None) -> Timeline | None:
        """Return the steps of a process and of those that it started, in all runs, oldest first; None where it is gone.

        `beside` are other processes of its case, and whether each is known to have run. Attempts of what is still tried
        are those of now. Of what is known to have run and is gone that is said.

        Raises:
            DomainError: `workflows_unavailable`, `audit_log_unavailable`, `key_unavailable`, `key_destroyed`.
        """
        others = dict(beside or {})
        case = _Reading({workflow_id: set(), **{other: set() for other in others}})
        while asked := case.take():
            found = await asyncio.gather(*(self._reads(*each) for each in asked.items()))
            for (process, runs), reads in zip(asked.items(), found, strict=True):
                if not reads and (runs or others.get(process, process == workflow_id)):
                    case.gaps[process] = HISTORY_GONE
                case.add(process, reads)
        if not case.steps and case.gaps.get(workflow_id) == HISTORY_GONE:
            return None
        return Timeline(tuple(sorted(case.steps, key=lambda step: step.at)), case.gaps)

    async def of_batch(self, history: WorkflowHistory) -> tuple[Step, ...]:
        """Return the steps of a batch of votes from a history whose payloads are sealed: names and instants alone."""
        standing = await self._standings.of(history.workflow_id)
        return tuple(with_attempts_of_now(StepReader(history, Signatures()).steps(), standing))

    async def _reads(self, workflow_id: str, named: Collection[str]) -> list[_Read]:
        """Return what is left of every run of a process, oldest first; `named` are runs that there have been."""
        runs, standing = await asyncio.gather(self._runs.of(workflow_id), self._standings.of(workflow_id))
        places = {run.execution.run_id: run.place for run in runs}
        unlisted = [run_id for run_id in named if run_id not in places]
        found = await asyncio.gather(*(self._read(workflow_id, run_id, None) for run_id in unlisted))
        found += await asyncio.gather(*(self._read(workflow_id, *run) for run in places.items()))
        reads = [read for read in found if read is not None]
        if reads and len(reads) < len(found):
            reads.append(_Read(why=HISTORY_GONE))
        return reads if standing is None else _with_attempts(reads, standing)

    async def _read(self, workflow_id: str, run_id: str, place: HistoryPlace | None) -> _Read | None:
        history = await self._histories.read(workflow_id, run_id)
        if history is None:
            return None if place is None or place.left_out else await self._archived(place)
        reader = StepReader(history, self._signatures)
        return _Read(reader.steps(), reader.children, is_on_server=True)

    async def _archived(self, place: HistoryPlace) -> _Read:
        if self._archive is None:
            return _Read(why=NOT_READ_HERE)
        try:
            history, is_opened = await self._archive.at(place)
        except DomainError as error:
            if error.code not in _GAPS:
                raise
            return _Read(why=error.code.value)
        reader = StepReader(history, self._signatures)
        steps = [replace(step, source=HistorySource.ARCHIVE) for step in reader.steps()]
        return _Read(steps, reader.children, "" if is_opened else ErrorCode.KEY_DESTROYED.value)


def _with_attempts(reads: list[_Read], standing: Standing) -> list[_Read]:
    """Return the same, of the newest run as it stands now."""
    return [
        replace(read, steps=with_attempts_of_now(read.steps, standing))
        if read.is_on_server and read is reads[-1]
        else read
        for read in reads
    ]


def with_attempts_of_now(steps: Sequence[Step], standing: Standing | None) -> Sequence[Step]:
    """Return the steps, those that are still tried with what Temporal knows of their attempts: it is in no history."""
    if standing is None:
        return steps
    waiting = {activity.name: activity for activity in standing.pending}

    def one(step: Step) -> Step:
        pending = waiting.get(step.name)
        if pending is None or step.kind not in _TRIED or step.ended_at is not None:
            return step
        return replace(step, attempts=pending.attempts, code=pending.code, until=pending.again_at)

    return [one(step) for step in steps]
