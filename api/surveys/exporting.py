"""Exports of results: asked for, looked at, cancelled and fetched, by the API and by pages of the console alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Response

from api.http.access import Principal
from api.surveys.export_processes import ExportProcesses, ExportProgress, ExportStatus
from api.surveys.files import file_response
from api.surveys.management import PUBLIC_STAGES, SurveyManagement
from domain.contracts.exports import ExportFormat, ExportRequest, ExportState
from domain.contracts.work import CancelWork
from domain.errors import DomainError, ErrorCode
from domain.exports import export_filter
from domain.ids import EXPORT_ID, SURVEY_ID
from domain.survey_ports import ExportCatalogue, ObjectStore
from domain.tokens import Role

_CANCELLED = ExportProgress(ExportStatus.CANCELLED)
_FINISHED = ExportProgress(ExportStatus.FINISHED)
_MEDIA_TYPES = {ExportFormat.CSV: "text/csv; charset=utf-8", ExportFormat.JSON: "application/json"}


@dataclass(frozen=True, slots=True)
class Exports:
    """What exports are made of."""

    catalogue: ExportCatalogue
    processes: ExportProcesses
    objects: ObjectStore


@dataclass(frozen=True, slots=True)
class Export:
    """How an export stands; `state` is None until the catalogue has it."""

    survey_id: str
    export_id: str
    progress: ExportProgress
    state: ExportState | None = None


class ExportDesk:
    """Begins exports, says how far they are, ends them, and hands out their files."""

    def __init__(self, management: SurveyManagement, exports: Exports) -> None:
        self._management = management
        self._exports = exports

    async def ask(self, request: ExportRequest) -> None:
        """Have the totals of every cell written into a file; durable when this returns. Safe to repeat.

        Raises:
            DomainError: `survey_not_found`, `survey_not_open`, `region_unknown`, `option_unknown`,
                `catalogue_unavailable`, `workflows_unavailable`.
        """
        entry = await self._management.get(request.survey_id)
        if entry.stage not in PUBLIC_STAGES:
            raise DomainError(ErrorCode.SURVEY_NOT_OPEN, "the survey was never open")
        export_filter(request).check(entry.survey)
        await self._exports.processes.start(request)

    async def read(self, survey_id: str, export_id: str) -> Export:
        """Return how an export stands.

        Raises:
            DomainError: `export_not_found`, `catalogue_unavailable`, `workflows_unavailable`.
        """
        found = await self._find(survey_id, export_id)
        if (ended := _ended(found)) is not None:
            return Export(survey_id, export_id, ended, found)
        progress = await self._exports.processes.progress(survey_id, export_id)
        if progress is None:
            raise DomainError(ErrorCode.EXPORT_NOT_FOUND)
        if progress.status is ExportStatus.FINISHED:  # meanwhile: with a file, or cancelled
            found = await self._find(survey_id, export_id)
            progress = _ended(found) or progress
        return Export(survey_id, export_id, progress, found)

    async def newest(self, limit: int) -> Sequence[ExportState]:
        """Return what was asked for last, of all surveys. Raises DomainError `catalogue_unavailable`."""
        return await self._exports.catalogue.newest(limit)

    async def cancel(self, survey_id: str, export_id: str, staff: Principal) -> Export:
        """End an export whose file is not written yet: it gets none. Safe to repeat.

        Raises:
            DomainError: `export_not_found`, `work_ended`, `catalogue_unavailable`, `workflows_unavailable`.
        """
        standing = await self.read(survey_id, export_id)
        if standing.progress.status is not ExportStatus.CANCELLED:
            request = CancelWork(actor=staff.actor, role=Role.ADMIN)
            await self._exports.processes.cancel(survey_id, export_id, request)
            standing = await self.read(survey_id, export_id)
        if standing.progress.status is not ExportStatus.CANCELLED:
            raise DomainError(ErrorCode.WORK_ENDED)
        return standing

    async def file(self, survey_id: str, export_id: str, staff: Principal) -> Response:
        """Return the file of an export, once the entry of who has it is committed.

        Raises:
            DomainError: `export_not_finished`, `objects_unavailable`, and as `read` does.
        """
        export = await self.read(survey_id, export_id)
        file = None if export.state is None else export.state.file
        if export.state is None or file is None:
            raise DomainError(ErrorCode.EXPORT_NOT_FINISHED, f"the export is {export.progress.status}")
        form = export.state.request.format
        response = await file_response(
            file.stored, self._exports.objects, media_type=_MEDIA_TYPES[form], filename=f"{export_id}.{form.value}"
        )
        await self._exports.catalogue.fetch(file, staff.actor, Role.ADMIN)
        return response

    async def _find(self, survey_id: str, export_id: str) -> ExportState | None:
        if not EXPORT_ID.fullmatch(export_id) or not SURVEY_ID.fullmatch(survey_id):
            raise DomainError(ErrorCode.EXPORT_NOT_FOUND)
        return await self._exports.catalogue.find(survey_id, export_id)


def _ended(state: ExportState | None) -> ExportProgress | None:
    if state is None:
        return None
    if state.file is not None:
        return _FINISHED
    return None if state.cancelled_at is None else _CANCELLED
