"""Exports of results: `/v1/internal/surveys/{id}/exports`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.limits import FrameworkRequest, Limits
from api.http.models import ApiModel, Timestamp
from api.surveys.export_processes import ExportProgress, ExportStatus
from api.surveys.exporting import Export, ExportDesk
from domain.contracts.exports import ExportFormat, ExportRequest
from domain.errors import ErrorCode
from domain.ids import new_export_id
from domain.limits import EXPORT


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

    @classmethod
    def of(cls, export: Export) -> "ExportBody":
        """Return an export as it is shown."""
        url = export_url(export.survey_id, export.export_id)
        body = cls(id=export.export_id, survey=export.survey_id, status=export.progress.status, url=url)
        if export.state is None:
            return body
        request, file, progress = export.state.request, export.state.file, export.progress
        told: dict[str, object] = {
            "format": request.format,
            "region": request.region,
            "option": request.option,
            "pieces_done": progress.done if progress.pieces else None,
            "pieces": progress.pieces or None,
        }
        if file is not None:
            told |= {
                "sha256": file.stored.sha256.hex(),
                "size_bytes": file.stored.size_bytes,
                "as_of": file.as_of,
                "missing_cells": file.missing_cells,
            }
        return body.model_copy(update=told)


def export_routes(desk: ExportDesk, admin: Callable[..., Awaitable[Principal]], limits: Limits) -> APIRouter:
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
        export = ExportRequest(
            survey_id=survey_id,
            export_id=new_export_id(),
            actor=staff.actor,
            format=order.format,
            region=order.region,
            option=order.option,
        )
        await desk.ask(export)
        response.headers["Location"] = export_url(survey_id, export.export_id)
        return _begun(export)

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
        staff: Admin,
        *,
        download: Annotated[bool, Query(description="Answer with the file itself.")] = False,
        accept: Annotated[str, Header(description="`text/csv` asks for the file as well.")] = "",
    ) -> ExportBody | Response:
        """Say how far an export is, or answer with its file."""
        if download or "text/csv" in accept:
            return await desk.file(survey_id, export_id, staff)
        return ExportBody.of(await desk.read(survey_id, export_id))

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
        return ExportBody.of(await desk.cancel(survey_id, export_id, staff))

    return router


def export_url(survey_id: str, export_id: str) -> str:
    """Return where an export is."""
    return f"/v1/internal/surveys/{survey_id}/exports/{export_id}"


def _begun(request: ExportRequest) -> ExportBody:
    running = Export(request.survey_id, request.export_id, ExportProgress(ExportStatus.RUNNING))
    asked = {"format": request.format, "region": request.region, "option": request.option}
    return ExportBody.of(running).model_copy(update=asked)
