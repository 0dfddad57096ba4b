"""What archiving histories needs from the outside."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from domain.contracts.archive import ClosedExecution, LeftOut
from domain.contracts.exports import StoredObject
from domain.history_packs import PackedHistory

PLATFORM_ARCHIVE: Final = "platform"  # of the namespace that belongs to no cell, noted in the catalogue's database


@dataclass(frozen=True, slots=True)
class SealedHistory:
    """A history as the server keeps it; `readable` names the first event with a payload that is not encrypted."""

    events: bytes
    readable: str = ""


@dataclass(frozen=True, slots=True)
class HistoryPlace:
    """Where in which file a history is, and the SHA-256 of its bytes there; `left_out` says why it is nowhere."""

    workflow_id: str
    run_id: str
    workflow_type: str
    name: str = ""
    first_byte: int = 0
    size_bytes: int = 0
    digest: bytes = b""
    left_out: str = ""
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ArchiveCounts:
    """How many histories are archived and left out, and until when the archive is complete; None: it never was."""

    archived: int
    left_out: int
    complete_until: datetime | None


class ClosedHistories(Protocol):
    """The executions of a cell, or of the platform, that have ended. All calls raise `workflows_unavailable`."""

    async def retention(self) -> timedelta:
        """Return for how long after its end the server keeps a history."""
        ...

    async def keep_for(self, retention: timedelta) -> bool:
        """Have the server keep so long what ends from now on, or return False where it does not let us."""
        ...

    async def count(self, after: datetime, until: datetime) -> int:
        """Return how many closed at or after the one instant and before the other; it may be seconds behind."""
        ...

    def closed(self, after: datetime, until: datetime) -> AsyncIterator[ClosedExecution]:
        """Return those, in no order."""
        ...

    async def read(self, execution: ClosedExecution) -> SealedHistory | None:
        """Return a history, its payloads as they are kept; None where it is gone."""
        ...


class ArchiveNotes(Protocol):
    """What of a cell, or of the platform, is archived, in its database. All calls raise `audit_log_unavailable`."""

    async def counts(self) -> ArchiveCounts:
        """Return how the archive stands."""
        ...

    async def missing(self, executions: Sequence[ClosedExecution]) -> list[ClosedExecution]:
        """Return those of which nothing is noted, in their order."""
        ...

    async def note(
        self, stored: StoredObject | None, histories: Sequence[PackedHistory], left_out: Sequence[LeftOut]
    ) -> None:
        """Note in one transaction what a file has, and what is left out. Safe to repeat: the first note stays."""
        ...

    async def mark(self, complete_until: datetime) -> None:
        """Note until when the archive is complete; it never goes back. Safe to repeat."""
        ...


class ArchiveWatch(Protocol):
    """Hears how an archive gets on."""

    def looked(self, cell: str, complete_until: datetime | None, retention: timedelta) -> None:
        """So far it is complete; the server forgets what closed longer ago than `retention`."""
        ...

    def lengthened(self, cell: str, retention: timedelta, *, done: bool) -> None:
        """The archive is so late that the server has to keep for this long what ends now; `done`: it does."""
        ...

    def noted(self, cell: str, archived: int, size_bytes: int) -> None:
        """A file is noted."""
        ...

    def left_out(self, cell: str, workflow_id: str, run_id: str, why: str) -> None:
        """A history is not archived and will not be."""
        ...

    def contradicted(self, cell: str, detail: str) -> None:
        """A file is not what was written."""
        ...


@dataclass(frozen=True, slots=True)
class ArchiveCell:
    """What is needed of one cell, or of the platform."""

    closed: ClosedHistories
    notes: ArchiveNotes


ArchiveCells = Mapping[str, ArchiveCell]
