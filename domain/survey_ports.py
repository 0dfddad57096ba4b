"""What the processes around surveys need from the outside."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.contracts.exports import CancelledExport, ExportFile, ExportRequest, ExportState, StoredObject
from domain.contracts.surveys import (
    AnnounceSurveyInput,
    CorrectSurveyInput,
    ExtendSurveyInput,
    FinishSurveyInput,
    FreezeSurveyInput,
    OpenSurveyInput,
    SurveyIntake,
    SurveyKeys,
    SurveyStage,
)
from domain.survey_drafts import CatalogueEntry


@dataclass(frozen=True, slots=True)
class Listing:
    """A survey in a list, without its questions; (`created_at`, `survey_id`) is where the list goes on after it."""

    survey_id: str
    title: str
    stage: SurveyStage
    start_at: datetime | None
    finish_at: datetime | None
    created_at: datetime


class SurveyCatalogue(Protocol):
    """The one place where surveys are written; each change and its staff action are one transaction.

    All calls raise DomainError `catalogue_unavailable` (retryable).
    """

    async def get(self, survey_id: str) -> CatalogueEntry | None:
        """Return a survey in any stage, or None."""
        ...

    async def page(self, after: tuple[datetime, str] | None, limit: int, *, drafts: bool) -> tuple[Listing, ...]:
        """Return up to `limit` surveys, newest first, that come after a listed one."""
        ...

    async def create(self, entry: CatalogueEntry, actor: str) -> None:
        """Add a draft."""
        ...

    async def update_draft(self, before: CatalogueEntry, after: CatalogueEntry, actor: str) -> bool:
        """Replace a draft; False where it is no longer what `before` says."""
        ...

    async def delete_draft(self, before: CatalogueEntry, actor: str) -> bool:
        """Delete a draft; False where it is no longer what `before` says."""
        ...

    async def freeze(self, request: FreezeSurveyInput) -> CatalogueEntry:
        """Freeze a draft for publication; frozen already, return it.

        Raises:
            DomainError: `survey_not_found`, `precondition_failed`, or `survey_invalid` where its end has passed.
        """
        ...

    async def keep_keys(self, keys: SurveyKeys) -> SurveyKeys:
        """Keep the wrapped keys of a frozen survey; the first ones stay, and are returned."""
        ...

    async def keys(self, survey_id: str) -> SurveyKeys | None:
        """Return the wrapped keys, or None where there are none yet."""
        ...

    async def open(self, request: OpenSurveyInput) -> CatalogueEntry:
        """Make a frozen survey public with its window; safe to repeat."""
        ...

    async def finish(self, request: FinishSurveyInput) -> CatalogueEntry:
        """Record the end of a published survey; finished already, return it."""
        ...

    async def correct(self, request: CorrectSurveyInput) -> CatalogueEntry:
        """Correct texts of a published survey; repeated, return it.

        Raises:
            DomainError: `precondition_failed`, or `survey_frozen` for any other change or stage.
        """
        ...


class SteeringCatalogue(Protocol):
    """What staff change of open surveys. All calls raise DomainError `catalogue_unavailable`, `survey_not_found`."""

    async def set_intake(self, request: SurveyIntake) -> CatalogueEntry:
        """Record a pause or its end; repeated, return it."""
        ...

    async def extend(self, request: ExtendSurveyInput) -> CatalogueEntry:
        """Record a later end of a published survey; repeated, return it."""
        ...


class CellIntake(Protocol):
    """Whether one cell takes votes of a survey."""

    async def set_intake(self, request: SurveyIntake) -> None:
        """Pause or resume; safe to repeat. Raises DomainError `ledger_unavailable`, `survey_not_found`."""
        ...


class SurveyAnnouncer(Protocol):
    """Tells everyone in a cell that a public survey changed, at least once."""

    async def announce(self, request: AnnounceSurveyInput) -> None:
        """Return when the cell's broker has it durably. Raises DomainError `broker_unavailable`."""
        ...


class ExportCatalogue(Protocol):
    """What was exported, by whom. All calls raise DomainError `catalogue_unavailable` (retryable)."""

    async def register(self, request: ExportRequest) -> None:
        """Note an export and its staff action; safe to repeat. Raises `survey_not_found`."""
        ...

    async def complete(self, file: ExportFile) -> None:
        """Note the file of an export, and its audit entry; safe to repeat."""
        ...

    async def fetch(self, file: ExportFile, actor: str, role: str) -> None:
        """Write the audit entry of a file that is given out, and to whom; repeated, it is another one."""
        ...

    async def cancel(self, cancelled: CancelledExport) -> None:
        """Note that an export gets no file, and its audit entry; safe to repeat. One that has its file keeps it."""
        ...

    async def find(self, survey_id: str, export_id: str) -> ExportState | None:
        """Return an export of a survey, or None."""
        ...

    async def newest(self, limit: int) -> Sequence[ExportState]:
        """Return exports of all surveys, the newest first."""
        ...


class ObjectStore(Protocol):
    """Keeps files by name, each written once. All calls raise DomainError `objects_unavailable` (retryable)."""

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        """Store a file as a whole or not at all; of a name that is there already the first file stays."""
        ...

    def read(self, name: str) -> AsyncIterator[bytes]:
        """Return the pieces of a stored file."""
        ...


class ExportObjects(ObjectStore, Protocol):
    """Keeps files of exports: what nobody wants any more goes."""

    async def remove(self, name: str) -> None:
        """Take a file away, where it is there. Safe to repeat."""
        ...
