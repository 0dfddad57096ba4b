"""Pages of break-glass: asked for on the page of a case, decided by a second person, read by who asked."""

from typing import Annotated, Final

from fastapi import Depends, Path, Query, Response

from api.console.opening import Console
from api.console.pages import digest_of, path_segment, words
from api.console.visits import Visit, choice, key_of
from api.http.models import QueryText
from api.support.pages import CaseId
from api.support.unmasking import UnmaskingDesk
from api.support.unmasking_routes import UnmaskingBody
from domain.errors import DomainError, ErrorCode
from domain.masking import MaskedField
from domain.tokens import Role
from domain.unmasking import UnmaskingReason, UnmaskingStage, approving_role

_OPEN: Final = frozenset({UnmaskingStage.WAITING, UnmaskingStage.APPROVED})
_DECISIONS: Final = {"yes": True, "no": False}

UnmaskingId = Annotated[QueryText, Path(max_length=64)]


class UnmaskingPages:
    """What the pages are made of. A field's value is on the one page that answers its reading."""

    def __init__(self, console: Console, desk: UnmaskingDesk) -> None:
        self._pages = console.pages
        self._desk = desk

    async def ask(self, visit: Visit, case_id: str) -> Response:
        """Ask to read a field, and go on to where it stands."""
        field, reason = choice(MaskedField, visit, "field"), choice(UnmaskingReason, visit, "reason")
        state = await self._desk.ask(case_id, field, reason, key_of(visit), visit.principal)
        return self._pages.to(f"/unmaskings/{path_segment(state.request_id)}")

    async def look(self, visit: Visit, unmasking_id: str) -> Response:
        """Return where it stands; looking is no reading."""
        return self._page(visit, UnmaskingBody.of(await self._desk.look(unmasking_id)))

    async def live(self, visit: Visit, unmasking_id: str, seen: str) -> Response:
        """Return where it stands now, or nothing where that is what was seen."""
        body = UnmaskingBody.of(await self._desk.look(unmasking_id))
        if digest_of(body) == seen:
            return Response(status_code=204)
        return self._pages.live(visit, self._live(visit, body, changed=True), f"It has changed: {words(body.stage)}.")

    async def decide(self, visit: Visit, unmasking_id: str) -> Response:
        """Decide as the second person."""
        approved = _DECISIONS.get(visit.value("approved"))
        if approved is None:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "approved: yes or no")
        await self._desk.decide(unmasking_id, key_of(visit), visit.principal, approved=approved)
        return self._pages.to(f"/unmaskings/{path_segment(unmasking_id)}")

    async def read(self, visit: Visit, unmasking_id: str) -> Response:
        """Return the field, after the audit entry of that."""
        state, value = await self._desk.read(unmasking_id, visit.principal)
        return self._page(visit, UnmaskingBody.of(state), value)

    def _page(self, visit: Visit, body: UnmaskingBody, value: str | None = None) -> Response:
        actor, roles = visit.principal.actor, visit.principal.roles
        is_asker = body.asked_by == actor
        return self._pages.page(
            "unmasking.html",
            visit,
            state=body,
            live=self._live(visit, body),
            value=value,
            may_read=is_asker and body.stage is UnmaskingStage.APPROVED,
            may_decide=not is_asker
            and body.stage is UnmaskingStage.WAITING
            and approving_role(actor, roles) is not None,
        )

    def _live(self, visit: Visit, body: UnmaskingBody, *, changed: bool = False) -> str:
        watch = ""
        if body.stage in _OPEN and not changed:
            place = f"{self._pages.site.base}/unmaskings/{path_segment(body.unmasking_id)}"
            watch = f"{place}/state?seen={digest_of(body)}"
        return self._pages.part("unmasking_live.html", visit, state=body, watch=watch, changed=changed)


def add_unmasking_pages(console: Console, made: UnmaskingPages) -> None:
    """Add the routes of these pages to the console."""
    router, door, everyone = console.router, console.door, (Role.SUPPORT, Role.COMPLIANCE, Role.ADMIN)
    Asker = Annotated[Visit, Depends(door.require(Role.SUPPORT, Role.COMPLIANCE))]  # noqa: N806 - types
    Decider = Annotated[Visit, Depends(door.require(Role.COMPLIANCE, Role.ADMIN))]  # noqa: N806
    Reader = Annotated[Visit, Depends(door.require(*everyone))]  # noqa: N806
    Watching = Annotated[Visit, Depends(door.require(*everyone, watches=True))]  # noqa: N806

    @router.post("/cases/{case_id}/unmaskings")
    async def ask(visit: Asker, case_id: CaseId) -> Response:
        return await made.ask(visit, case_id)

    @router.post("/unmaskings")
    async def go(visit: Reader) -> Response:
        return console.pages.to(f"/unmaskings/{path_segment(visit.value('unmasking')[:64])}")

    @router.get("/unmaskings/{unmasking_id}")
    async def look(visit: Reader, unmasking_id: UnmaskingId) -> Response:
        return await made.look(visit, unmasking_id)

    @router.get("/unmaskings/{unmasking_id}/state")
    async def live(
        visit: Watching, unmasking_id: UnmaskingId, seen: Annotated[str, Query(max_length=64)] = ""
    ) -> Response:
        return await made.live(visit, unmasking_id, seen)

    @router.post("/unmaskings/{unmasking_id}/decision")
    async def decide(visit: Decider, unmasking_id: UnmaskingId) -> Response:
        return await made.decide(visit, unmasking_id)

    @router.post("/unmaskings/{unmasking_id}/read")
    async def read(visit: Reader, unmasking_id: UnmaskingId) -> Response:
        return await made.read(visit, unmasking_id)
