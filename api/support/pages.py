"""Pages of support: find a case, read its timeline, have something done to it. They show what the API answers."""

from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Query, Response

from api.console.opening import Console
from api.console.pages import digest_of, path_segment, words
from api.console.visits import Visit, choice, key_of
from api.http.models import QueryText
from api.support.acting import ActionDesk
from api.support.bodies import CaseFileBody, CasePage, StuckPage, TimelineBody
from api.support.desk import CaseDesk, Way
from api.support.stuck import StuckDesk
from api.support.waiting import SEARCHES, Waiting, WaitingStage
from domain.errors import DomainError, ErrorCode
from domain.support_actions import RULES, SupportAction, SupportReason, may_act
from domain.tokens import Role
from domain.unmasking import UnmaskingReason, asking_role

STEPS: Final = 200  # of a page
CASES: Final = 25
_HOURS_MAX: Final = 87_600
_RUNNING: Final = "running"
_YES: Final = "yes"
_STAGES: Final = {stage.value: search.kind.value for stage, search in SEARCHES.items()}
_WAYS: Final = {
    Way.REGISTRATION.value: "Registration, login, recovery or deletion id",
    Way.SUBMISSION.value: "Submission id",
    Way.VOTER.value: "Voter reference",
    Way.MAIL.value: "Mail address",
    Way.PHONE.value: "Telephone number",
    Way.WORKFLOW.value: "Workflow id",
}

CaseId = Annotated[QueryText, Path(max_length=64)]
First = Annotated[int, Query(ge=0, le=1_000_000)]


class SupportPages:
    """What the pages are made of; those who may see cases are let in by the door."""

    def __init__(self, console: Console, desk: CaseDesk, stuck: StuckDesk, actions: ActionDesk) -> None:
        self._pages = console.pages
        self._desk = desk
        self._stuck = stuck
        self._actions = actions

    def first(self, visit: Visit, page: CasePage | None = None, **asked: str) -> Response:
        """Return the page with the forms that find cases, and what one of them has found.

        What was looked for is in no address: a mail address would stay in the browser's memory and in logs.
        """
        shown: dict[str, Any] = {"by": "", "value": "", "stage": "", "hours": "24", "escalated": "", **asked}
        return self._pages.page(
            "find.html",
            visit,
            page=page,
            ways=_WAYS,
            stages=_STAGES,
            asked=asked,
            again="waiting" if "hours" in asked else "find",
            **shown,
        )

    async def found(self, visit: Visit) -> Response:
        """Return the cases that a form asks for by what is known."""
        way, value = choice(Way, visit, "by"), visit.value("value")
        page = await self._desk.find(way, value, visit.form.get("cursor") or None, CASES)
        return self.first(visit, CasePage.of(page), by=way.value, value=value)

    async def waiting(self, visit: Visit) -> Response:
        """Return the open cases that have waited for so many hours: at a stage, or for whatever they wait for."""
        stage = choice(WaitingStage, visit, "stage") if visit.form.get("stage") else None
        hours, escalated = visit.value("hours"), visit.form.get("escalated", "")
        if not hours.isascii() or not hours.isdigit() or int(hours) > _HOURS_MAX:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "hours: not a number of hours")
        sought = Waiting(stage, timedelta(hours=int(hours)), escalated == _YES)
        page = await self._desk.waiting(sought, visit.form.get("cursor") or None, CASES)
        return self.first(visit, CasePage.of(page), stage=stage or "", hours=hours, escalated=escalated)

    async def late(self, visit: Visit) -> Response:
        """Return what stays longer than it should."""
        return self._pages.page("stuck.html", visit, page=StuckPage.of(await self._stuck.look(100)))

    async def case(self, visit: Visit, case_id: str, first: int, done: str) -> Response:
        """Return a case, its timeline, and what may be done to it at this stage and by this person."""
        file = CaseFileBody.of(await self._desk.read(case_id, visit.principal))
        timeline = await self._timeline(visit, case_id, first)
        roles = visit.principal.roles
        actions = {
            action.value: sorted(rule.reasons)
            for action, rule in RULES.items()
            if rule.role_of(roles) is not None and may_act(action, file.case.kind, file.case.stage)
        }
        return self._pages.page(
            "case.html",
            visit,
            file=file,
            live=self._live(visit, file, timeline, first),
            actions=actions,
            done=done if done in set(SupportAction) else "",
            may_unmask=asking_role(visit.principal.actor, roles) is not None,
            unmasking_reasons=sorted(UnmaskingReason),
        )

    async def live(self, visit: Visit, case_id: str, first: int, seen: str) -> Response:
        """Return the part of a case's page that changes, or nothing where it has not."""
        file = CaseFileBody.of(await self._desk.read(case_id, visit.principal))
        timeline = await self._timeline(visit, case_id, first)
        if digest_of(file, timeline) == seen:
            return Response(status_code=204)
        told = f"It has changed: {words(file.case.stage)}, the process is {words(file.status or 'gone')}."
        return self._pages.live(visit, self._live(visit, file, timeline, first), told)

    async def act(self, visit: Visit, case_id: str) -> Response:
        """Have something done to a case; the form's key makes a second click the same request."""
        action, reason = choice(SupportAction, visit, "action"), choice(SupportReason, visit, "reason")
        await self._actions.act(case_id, action, reason, key_of(visit), visit.principal)
        return self._pages.to(f"/cases/{path_segment(case_id)}", done=action.value)

    def _live(self, visit: Visit, file: CaseFileBody, timeline: TimelineBody | None, first: int) -> str:
        watch = ""
        if file.status == _RUNNING:
            place = f"{self._pages.site.base}/cases/{path_segment(file.case.case_id)}/timeline"
            watch = f"{place}?first={first}&seen={digest_of(file, timeline)}"
        return self._pages.part("case_live.html", visit, file=file, timeline=timeline, first=first, watch=watch)

    async def _timeline(self, visit: Visit, case_id: str, first: int) -> TimelineBody | None:
        try:
            found = await self._desk.timeline(case_id)
        except DomainError as error:
            if error.code is ErrorCode.CASE_NOT_FOUND:  # the directory has the case longer than Temporal its history
                return None
            raise
        return TimelineBody.of(case_id, found, first, STEPS, visit.principal.roles)


def add_support_pages(console: Console, made: SupportPages) -> None:
    """Add the routes of these pages to the console."""
    router, door, seers = console.router, console.door, (Role.SUPPORT, Role.COMPLIANCE)
    Anyone = Annotated[Visit, Depends(door.require())]  # noqa: N806 - a type
    Staff = Annotated[Visit, Depends(door.require(*seers))]  # noqa: N806
    Watching = Annotated[Visit, Depends(door.require(*seers, watches=True))]  # noqa: N806

    @router.get("")
    async def first(visit: Anyone) -> Response:
        return made.first(visit)

    @router.post("/find")
    async def find(visit: Staff) -> Response:
        return await made.found(visit)

    @router.post("/waiting")
    async def waiting(visit: Staff) -> Response:
        return await made.waiting(visit)

    @router.get("/stuck")
    async def stuck(visit: Staff) -> Response:
        return await made.late(visit)

    @router.get("/cases/{case_id}")
    async def case(
        visit: Staff, case_id: CaseId, first: First = 0, done: Annotated[str, Query(max_length=32)] = ""
    ) -> Response:
        return await made.case(visit, case_id, first, done)

    @router.get("/cases/{case_id}/timeline")
    async def live(
        visit: Watching, case_id: CaseId, first: First = 0, seen: Annotated[str, Query(max_length=64)] = ""
    ) -> Response:
        return await made.live(visit, case_id, first, seen)

    @router.post("/cases/{case_id}/actions")
    async def act(visit: Staff, case_id: CaseId) -> Response:
        return await made.act(visit, case_id)
