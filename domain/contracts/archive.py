"""Archiving of histories: which executions and which files; nothing of what a history says."""

from datetime import datetime

from domain.contracts.base import Contract
from domain.contracts.exports import StoredObject


class ArchiveHistoriesInput(Contract):
    """Archives what has closed in a cell; `after` and the counts are those of the run that this one goes on from."""

    cell: str
    after: datetime | None = None
    archived: int = 0
    left_out: int = 0


class ArchivedHistories(Contract):
    """How many histories were archived and left out, and until when everything that closed is accounted for."""

    cell: str
    archived: int
    left_out: int
    complete_until: datetime


class PlanArchiveInput(Contract):
    """Looks for what has closed in a cell, from `after` on; without it, from where the archive is complete."""

    cell: str
    after: datetime | None = None


class ClosedExecution(Contract):
    """One run that has ended; `size_bytes` is about what its history takes."""

    workflow_id: str
    run_id: str
    workflow_type: str
    started_at: datetime
    closed_at: datetime
    size_bytes: int = 0


class HistoryPack(Contract):
    """The executions of one file, oldest closing first."""

    cell: str
    executions: tuple[ClosedExecution, ...]


class ArchivePlan(Contract):
    """What closed until an instant and is not archived, by files.

    With these, `is_complete` says, everything until then is; `is_last` that nothing later is looked for now.
    """

    cell: str
    until: datetime
    packs: tuple[HistoryPack, ...]
    is_complete: bool = True
    is_last: bool = True


class LeftOut(Contract):
    """An execution that is not archived and will not be; `why` is a code."""

    execution: ClosedExecution
    why: str


class WrittenPack(Contract):
    """A file of histories in the object store, or none where every execution of the pack was left out."""

    cell: str
    stored: StoredObject | None = None
    left_out: tuple[LeftOut, ...] = ()


class NotedPack(Contract):
    """How many histories of a file are noted as archived."""

    cell: str
    archived: int
    left_out: int = 0


class ArchiveMark(Contract):
    """Everything that closed in a cell until then is archived, or left out and noted so."""

    cell: str
    complete_until: datetime
