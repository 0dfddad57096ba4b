"""Writes results into files and notes what was written."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from domain.contracts.exports import ExportFile, ExportRequest
from domain.contracts.surveys import Survey
from domain.errors import DomainError, ErrorCode
from domain.exports import export_pieces, export_regions
from domain.ports import ResultsReader
from domain.survey_ports import ExportCatalogue, ObjectStore, SurveyCatalogue
from domain.tally import MergedTotals


class ExportActivities:
    """Exports totals; holds the ports so that a test can pass its own."""

    def __init__(
        self, surveys: SurveyCatalogue, exports: ExportCatalogue, results: ResultsReader, objects: ObjectStore
    ) -> None:
        self._surveys = surveys
        self._exports = exports
        self._results = results
        self._objects = objects

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.register_export, self.write_export, self.complete_export]

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

        Safe to repeat: the first file that was finished stays.

        Raises:
            ApplicationError: `survey_not_found`; `tally_unavailable`, `catalogue_unavailable`,
                `objects_unavailable` (retried).
        """
        try:
            entry = await self._surveys.get(request.survey_id)
            if entry is None:
                raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
            totals = await self._results.totals(request.survey_id)
            stored = await self._objects.put(
                f"exports/{request.survey_id}/{request.export_id}.{request.format.value}",
                _with_progress(entry.survey, totals, request),
            )
        except DomainError as error:
            raise to_application_error(error) from error
        return ExportFile(
            survey_id=request.survey_id,
            export_id=request.export_id,
            stored=stored,
            as_of=totals.as_of,
            missing_cells=totals.missing_cells,
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


async def _with_progress(survey: Survey, totals: MergedTotals, request: ExportRequest) -> AsyncIterator[bytes]:
    pieces = len(export_regions(survey, totals, request)) + 2
    for done, piece in enumerate(export_pieces(survey, totals, request)):
        activity.heartbeat(done, pieces)
        yield piece
