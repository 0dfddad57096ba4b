"""Exports of results: `/v1/internal/surveys/{id}/exports`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.limits import FrameworkRequest, Limits
from api.http.models import ApiModel, Timestamp
from api.surveys.export_processes import ExportProcesses, ExportProgress, ExportStatus
from api.surveys.files import file_response
from api.surveys.management import PUBLIC_STAGES, SurveyManagement
from domain.contracts.exports import ExportFormat, ExportRequest, ExportState
from domain.contracts.work import CancelWork
from domain.errors import DomainError, ErrorCode
from domain.exports import export_filter
from domain.ids import EXPORT_ID, SURVEY_ID, new_export_id
from domain.limits import EXPORT
from domain.survey_ports import ExportCatalogue, ObjectStore
from domain.tokens import Role

_CANCELLED = ExportProgress(ExportStatus.CANCELLED)
_MEDIA_TYPES = {ExportFormat.CSV: "text/csv; charset=utf-8", ExportFormat.JSON: "application/json"}


class ExportOrder(ApiModel):
    """What to export; `region` and `option` narrow it to one of them."""

    format: ExportFormat = Field(strict=False)
    region: str | None = None
    option: str | None = None


class ExportBody(ApiModel):
    """An export. Digest, size and `asOf` are there once the file is; `url` gives it with `?download=true`."""

    id: str
    survey: str
    status: ExportStatus
    url: str
    format: ExportFormat | None = Field(default=None, exclude_if=lambda value: value is None)
    region: str | None = Field(default=None, exclude_if=lambda value: value is None)
    option: str | None = Field(default=None, exclude_if=lambda value: value is None)
    pieces_done: int | None = Field(default=None, exclude_if=lambda value: value is None)
    pieces: int | None = Field(default=None, exclude_if=lambda value: value is None)
    sha256: str | None = Field(default=None, exclude_if=lambda value: value is None)
    size_bytes: int | None = Field(default=None, exclude_if=lambda value: value is None)
    as_of: Timestamp | None = Field(default=None, exclude_if=lambda value: value is None)
    missing_cells: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)


@dataclass(frozen=True, slots=True)
class Exports:
    """What the routes work with."""

    catalogue: ExportCatalogue
    processes: ExportProcesses
    objects: ObjectStore


def export_routes(
    management: SurveyManagement,
    exports: Exports,
    admin: Callable[..., Awaitable[Principal]],
    limits: Limits,
) -> APIRouter:
    """Return the routes; staff see results whatever the survey's visibility."""
    router = APIRouter(prefix="/v1/internal/surveys", tags=["Exports"], responses={**STAFF_RESPONSES})
    Admin = Annotated[Principal, Depends(admin)]  # noqa: N806 - a type
    orders = limits.subjects(EXPORT)

    @router.post(
        "/{survey_id}/exports",
        status_code=202,
        summary="Export results",
        responses=problem_responses(
            ErrorCode.SURVEY_NOT_FOUND,
            ErrorCode.SURVEY_NOT_OPEN,
            ErrorCode.REGION_UNKNOWN,
            ErrorCode.OPTION_UNKNOWN,
            ErrorCode.CATALOGUE_UNAVAILABLE,
            ErrorCode.WORKFLOWS_UNAVAILABLE,
        ),
    )
    async def export_results(
        survey_id: str, order: ExportOrder, staff: Admin, request: Request, response: Response
    ) -> ExportBody:
        """Begin to write the totals of every cell into a file."""
        orders.take(FrameworkRequest(request), staff.actor)
        entry = await management.get(survey_id)
        if entry.stage not in PUBLIC_STAGES:
            raise DomainError(ErrorCode.SURVEY_NOT_OPEN, "the survey was never open")
        export = ExportRequest(
            survey_id=survey_id,
            export_id=new_export_id(),
            actor=staff.actor,
            format=order.format,
            region=order.region,
            option=order.option,
        )
        export_filter(export).check(entry.survey)
        await exports.processes.start(export)
        body = _running(export, ExportProgress(ExportStatus.RUNNING))
        response.headers["Location"] = body.url
        return body

    @router.get(
        "/{survey_id}/exports/{export_id}",
        summary="Read an export, or fetch its file",
        response_model=ExportBody,
        responses={
            200: {"content": {"text/csv": {}}, "description": "The export, or its file."},
            **problem_responses(
                ErrorCode.EXPORT_NOT_FOUND,
                ErrorCode.EXPORT_NOT_FINISHED,
                ErrorCode.CATALOGUE_UNAVAILABLE,
                ErrorCode.OBJECTS_UNAVAILABLE,
                ErrorCode.WORKFLOWS_UNAVAILABLE,
            ),
        },
    )
    async def read_export(
        survey_id: str,
        export_id: str,
        _staff: Admin,
        *,
        download: Annotated[bool, Query(description="Answer with the file itself.")] = False,
        accept: Annotated[str, Header(description="`text/csv` asks for the file as well.")] = "",
    ) -> ExportBody | Response:
        """Say how far an export is, or answer with its file."""
        found = await _find(exports.catalogue, survey_id, export_id)
        wants_file = download or "text/csv" in accept
        if found is None or found.file is None:
            progress = await _progress(exports.processes, survey_id, export_id, found)
            if wants_file:
                raise DomainError(ErrorCode.EXPORT_NOT_FINISHED, f"the export is {progress.status}")
            if found is None:
                return _beginning(survey_id, export_id, progress)
            return _running(found.request, progress)
        return await _file(found, exports.objects) if wants_file else _finished(found)

    @router.put(
        "/{survey_id}/exports/{export_id}/cancel",
        summary="Cancel an export",
        responses=problem_responses(
            ErrorCode.EXPORT_NOT_FOUND,
            ErrorCode.WORK_ENDED,
            ErrorCode.CATALOGUE_UNAVAILABLE,
            ErrorCode.WORKFLOWS_UNAVAILABLE,
        ),
    )
    async def cancel_export(survey_id: str, export_id: str, staff: Admin) -> ExportBody:
        """End an export whose file is not written yet: it gets none. Asked again, it stays cancelled."""
        found = await _find(exports.catalogue, survey_id, export_id)
        if found is None or found.cancelled_at is None:
            await _progress(exports.processes, survey_id, export_id, found)  # whether there is such an export
            await exports.processes.cancel(survey_id, export_id, CancelWork(actor=staff.actor, role=Role.ADMIN))
            found = await _find(exports.catalogue, survey_id, export_id)
        if found is None or found.cancelled_at is None:
            raise DomainError(ErrorCode.WORK_ENDED)
        return _running(found.request, _CANCELLED)

    return router


async def _find(exports: ExportCatalogue, survey_id: str, export_id: str) -> ExportState | None:
    if not EXPORT_ID.fullmatch(export_id) or not SURVEY_ID.fullmatch(survey_id):
        raise DomainError(ErrorCode.EXPORT_NOT_FOUND)
    return await exports.find(survey_id, export_id)


async def _progress(
    processes: ExportProcesses, survey_id: str, export_id: str, found: ExportState | None
) -> ExportProgress:
    if found is not None and found.cancelled_at is not None:
        return _CANCELLED
    progress = await processes.progress(survey_id, export_id)
    if progress is None:
        raise DomainError(ErrorCode.EXPORT_NOT_FOUND)
    return progress


def _url(survey_id: str, export_id: str) -> str:
    return f"/v1/internal/surveys/{survey_id}/exports/{export_id}"


def _beginning(survey_id: str, export_id: str, progress: ExportProgress) -> ExportBody:
    return ExportBody(id=export_id, survey=survey_id, status=progress.status, url=_url(survey_id, export_id))


def _running(request: ExportRequest, progress: ExportProgress) -> ExportBody:
    return ExportBody(
        id=request.export_id,
        survey=request.survey_id,
        status=progress.status,
        url=_url(request.survey_id, request.export_id),
        format=request.format,
        region=request.region,
        option=request.option,
        pieces_done=progress.done if progress.pieces else None,
        pieces=progress.pieces or None,
    )


def _finished(found: ExportState) -> ExportBody:
    file = found.file
    assert file is not None
    done = _running(found.request, ExportProgress(ExportStatus.FINISHED))
    return done.model_copy(
        update={
            "sha256": file.stored.sha256.hex(),
            "size_bytes": file.stored.size_bytes,
            "as_of": file.as_of,
            "missing_cells": file.missing_cells,
        }
    )


async def _file(found: ExportState, objects: ObjectStore) -> Response:
    file = found.file
    assert file is not None
    form = found.request.format
    return await file_response(
        file.stored, objects, media_type=_MEDIA_TYPES[form], filename=f"{found.request.export_id}.{form.value}"
    )
