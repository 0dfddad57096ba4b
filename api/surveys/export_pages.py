"""Pages of exports: one is asked for, looked at while it is written, cancelled, and its file is kept."""

from typing import Annotated, Final

from fastapi import Depends, Path, Query, Request, Response

from api.console.opening import Console
from api.console.pages import digest_of, path_segment, words
from api.console.visits import Visit, choice, key_of
from api.http.limits import FrameworkRequest, Limits
from api.http.models import QueryText
from api.surveys.export_processes import ExportStatus
from api.surveys.export_routes import ExportBody
from api.surveys.exporting import ExportDesk
from domain.contracts.exports import ExportFormat, ExportRequest
from domain.errors import DomainError, ErrorCode
from domain.ids import export_id_of
from domain.limits import EXPORT
from domain.tokens import Role

_NEWEST: Final = 20  # exports that the first page names
_Id = Annotated[QueryText, Path(max_length=64)]


class ExportPages:
    """What the pages are made of; they say how far a file is by themselves where there are scripts, by a link else."""

    def __init__(self, console: Console, desk: ExportDesk) -> None:
        self._pages = console.pages
        self._desk = desk

    async def first(self, visit: Visit, survey_id: str) -> Response:
        """Return the form, and what was asked for last."""
        newest = await self._desk.newest(_NEWEST)
        return self._pages.page("exports.html", visit, formats=list(ExportFormat), exports=newest, survey=survey_id)

    async def ask(self, visit: Visit) -> Response:
        """Ask for an export, and go on to where it stands. Sent twice, the form asks for one."""
        survey_id, form = visit.value("survey"), choice(ExportFormat, visit, "format")
        region, option = visit.form.get("region") or None, visit.form.get("option") or None
        asked = "\n".join((visit.principal.actor, key_of(visit), survey_id, form, region or "", option or ""))
        request = ExportRequest(
            survey_id=survey_id,
            export_id=export_id_of(asked),
            actor=visit.principal.actor,
            format=form,
            region=region,
            option=option,
        )
        await self._desk.ask(request)
        return self._pages.to(f"/exports/{path_segment(survey_id)}/{request.export_id}")

    async def export(self, visit: Visit, survey_id: str, export_id: str) -> Response:
        """Return how far an export is, and where its file is once that is written."""
        body = ExportBody.of(await self._desk.read(survey_id, export_id))
        return self._pages.page(
            "export.html",
            visit,
            export=body,
            live=self._live(visit, body),
            place=self._place(body),
            may_cancel=body.status is ExportStatus.RUNNING,
        )

    async def live(self, visit: Visit, survey_id: str, export_id: str, seen: str) -> Response:
        """Return how far an export is, or nothing where that is what was seen."""
        body = ExportBody.of(await self._desk.read(survey_id, export_id))
        if digest_of(body) == seen:
            return Response(status_code=204)
        told = "" if body.status is ExportStatus.RUNNING else f"The export is {words(body.status)}."
        return self._pages.live(visit, self._live(visit, body), told)

    async def cancel(self, visit: Visit, survey_id: str, export_id: str) -> Response:
        """Have an export cancelled, and go back to it. What had its file before is shown with it."""
        try:
            await self._desk.cancel(survey_id, export_id, visit.principal)
        except DomainError as error:
            if error.code is not ErrorCode.WORK_ENDED:
                raise
        return self._pages.to(f"/exports/{path_segment(survey_id)}/{path_segment(export_id)}")

    async def file(self, visit: Visit, survey_id: str, export_id: str) -> Response:
        """Return the file."""
        return await self._desk.file(survey_id, export_id, visit.principal)

    def _live(self, visit: Visit, body: ExportBody) -> str:
        place = self._place(body)
        watch = f"{place}/state?seen={digest_of(body)}" if body.status is ExportStatus.RUNNING else ""
        return self._pages.part("export_live.html", visit, export=body, place=place, watch=watch)

    def _place(self, body: ExportBody) -> str:
        return f"{self._pages.site.base}/exports/{path_segment(body.survey)}/{path_segment(body.id)}"


def add_export_pages(console: Console, made: ExportPages, limits: Limits) -> None:
    """Add the routes of these pages to the console."""
    router, door, orders = console.router, console.door, limits.subjects(EXPORT)
    Admin = Annotated[Visit, Depends(door.require(Role.ADMIN))]  # noqa: N806 - types
    Watching = Annotated[Visit, Depends(door.require(Role.ADMIN, watches=True))]  # noqa: N806

    @router.get("")
    async def first(visit: Admin, survey: Annotated[QueryText, Query(max_length=64)] = "") -> Response:
        return await made.first(visit, survey)

    @router.post("/exports")
    async def ask(visit: Admin, request: Request) -> Response:
        orders.take(FrameworkRequest(request), visit.principal.actor)
        return await made.ask(visit)

    @router.get("/exports/{survey_id}/{export_id}")
    async def export(visit: Admin, survey_id: _Id, export_id: _Id) -> Response:
        return await made.export(visit, survey_id, export_id)

    @router.get("/exports/{survey_id}/{export_id}/state")
    async def state(
        visit: Watching, survey_id: _Id, export_id: _Id, seen: Annotated[str, Query(max_length=64)] = ""
    ) -> Response:
        return await made.live(visit, survey_id, export_id, seen)

    @router.post("/exports/{survey_id}/{export_id}/cancel")
    async def cancel(visit: Admin, survey_id: _Id, export_id: _Id) -> Response:
        return await made.cancel(visit, survey_id, export_id)

    @router.get("/exports/{survey_id}/{export_id}/file")
    async def file(visit: Admin, survey_id: _Id, export_id: _Id) -> Response:
        return await made.file(visit, survey_id, export_id)
