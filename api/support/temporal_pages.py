"""The page that has Temporal's own UI show histories opened: as long as it is open itself, and minutes longer."""

from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Request, Response

from api.console.opening import Console
from api.console.visits import Visit
from domain.tokens import Role


def add_temporal_pages(console: Console, origins: Collection[str]) -> None:
    """Add the routes of this page to the console; `origins` are where Temporal's UI may ask from."""
    router, pages, seers = console.router, console.pages, (Role.SUPPORT, Role.COMPLIANCE)
    Staff = Annotated[Visit, Depends(console.door.require(*seers))]  # noqa: N806 - types
    Watching = Annotated[Visit, Depends(console.door.require(*seers, watches=True))]  # noqa: N806

    @router.get("/temporal")
    async def opened(visit: Staff, request: Request) -> Response:
        answer = pages.page("temporal.html", visit, origins=sorted(origins))
        await console.beside.open(request, visit, answer)
        return answer

    @router.get("/temporal/state")
    async def renewed(visit: Watching, request: Request) -> Response:
        answer = Response(status_code=204)
        await console.beside.open(request, visit, answer)
        return answer
