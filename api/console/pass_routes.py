"""The page on which somebody gives a pass to a program of theirs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from api.console.doors import Door
from api.console.pages import Pages
from api.console.passes import StaffPasses
from api.console.visits import THUMBPRINT, Visit
from api.http.models import QueryText
from domain.errors import DomainError, ErrorCode


def add_pass_routes(router: APIRouter, *, pages: Pages, door: Door, passes: StaffPasses) -> None:
    """Add the page and its form; a pass is shown once."""
    Anyone = Annotated[Visit, Depends(door.require())]  # noqa: N806 - a type

    @router.get("/pass")
    async def ask(visit: Anyone, key: Annotated[QueryText, Query(max_length=64)] = "") -> Response:
        return pages.page("pass.html", visit, key=key, given="")

    @router.post("/pass")
    async def give(visit: Anyone) -> Response:
        thumbprint = visit.value("thumbprint")
        if THUMBPRINT.fullmatch(thumbprint) is None:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "thumbprint: not one of a key")
        staff_id = visit.principal.actor.removeprefix("staff:")
        given = await passes.issue(staff_id, visit.principal.roles, thumbprint)
        return pages.page("pass.html", visit, key=thumbprint, given=given)
