"""Writes results into files and notes what was written."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.contracts.exports import CancelledExport, ExportFile, ExportFormat, ExportRequest, ExportSnapshot
from domain.errors import DomainError, ErrorCode
from domain.exports import export_pieces, export_regions, snapshot_of
from domain.pieces import joined, one_piece
from domain.ports import ResultsReader
from domain.survey_ports import ExportCatalogue, ExportObjects, SurveyCatalogue


class ExportActivities:
    """Exports totals; holds the ports so that a test can pass its own."""

    def __init__(
        self, surveys: SurveyCatalogue, exports: ExportCatalogue, results: ResultsReader, objects: ExportObjects
    ) -> None:
        self._surveys = surveys
        self._exports = exports
        self._results = results
        self._objects = objects

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.register_export, self.write_export, self.complete_export, self.cancel_export]

    @activity.defn(name="register_export")
    async def register_export(self, request: ExportRequest) -> None:
        """Note who asked for an export of what. Safe to repeat.

        Raises:
            ApplicationError: `survey_not_found`; `catalogue_unavailable` (retried).
        """
        try:
            await self._exports.register(request)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="write_export")
    async def write_export(self, request: ExportRequest) -> ExportFile:
        """Write the totals of now into a file, heartbeating (pieces done, pieces in all).

        Safe to repeat: the totals that were read first are kept beside the file, and every try writes those. Of an
        export that was cancelled meanwhile nothing stays.

        Raises:
            ApplicationError: `survey_not_found`; `tally_unavailable`, `ledger_unavailable`, `catalogue_unavailable`,
                `objects_unavailable` (retried).
        """
        name = _name(request)
        try:
            snapshot = await self._snapshot(f"{name}_totals.json", request.survey_id)
            stored = await self._objects.put(f"{name}.{request.format.value}", _with_progress(snapshot, request))
            await self._remove_cancelled(request)  # whoever cancels removes after the note of it, and this looks after
        except DomainError as error:
            raise to_application_error(error) from error
        return ExportFile(
            survey_id=request.survey_id,
            export_id=request.export_id,
            stored=stored,
            as_of=snapshot.as_of,
            missing_cells=snapshot.missing_cells,
        )

    @activity.defn(name="complete_export")
    async def complete_export(self, file: ExportFile) -> None:
        """Note where the file of an export is, and its digest. Safe to repeat.

        Raises:
            ApplicationError: `catalogue_unavailable` (retried).
        """
        try:
            await self._exports.complete(file)
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="cancel_export")
    async def cancel_export(self, cancelled: CancelledExport) -> None:
        """Note that an export has no file and gets none, and who wanted that; take away what was written of it.

        Safe to repeat: the first one is noted.

        Raises:
            ApplicationError: `catalogue_unavailable`, `objects_unavailable` (retried).
        """
        try:
            await self._exports.cancel(cancelled)
            await self._remove_cancelled(cancelled)
        except DomainError as error:
            raise to_application_error(error) from error

    async def _remove_cancelled(self, export: ExportRequest | CancelledExport) -> None:
        found = await self._exports.find(export.survey_id, export.export_id)
        if found is None or found.cancelled_at is None:
            return
        name = _name(export)
        for written in (*(f"{name}.{form.value}" for form in ExportFormat), f"{name}_totals.json"):
            await self._objects.remove(written)

    async def _snapshot(self, name: str, survey_id: str) -> ExportSnapshot:
        entry = await self._surveys.get(survey_id)
        if entry is None:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
        fresh = snapshot_of(entry.survey, await self._results.totals(survey_id))
        await self._objects.put(name, one_piece(fresh.model_dump_json().encode()))
        kept = await joined(self._objects.read(name))
        return ExportSnapshot.model_validate_json(kept)


def _name(export: ExportRequest | CancelledExport) -> str:
    return f"exports/{export.survey_id}/{export.export_id}"


async def _with_progress(snapshot: ExportSnapshot, request: ExportRequest) -> AsyncIterator[bytes]:
    pieces = len(export_regions(snapshot, request)) + 2
    for done, piece in enumerate(export_pieces(snapshot, request)):
        activity.heartbeat(done, pieces)
        yield piece
