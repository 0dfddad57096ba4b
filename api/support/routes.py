"""Cases for support: `/v1/support`."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.models import QueryText
from api.support.bodies import CaseFileBody, CasePage, StuckPage, TimelineBody
from api.support.cursors import CURSOR_MAX
from api.support.desk import CaseDesk, Way
from api.support.stuck import StuckDesk
from api.support.waiting import Waiting, WaitingStage
from domain.errors import DomainError, ErrorCode

_AGE_MAX_S = 3650 * 86_400
_STEPS_MAX = 500

_CASE = problem_responses(
    ErrorCode.CASE_NOT_FOUND,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_UNAVAILABLE,
    ErrorCode.KEY_DESTROYED,
)

CaseId = Annotated[QueryText, Path(max_length=64)]
Wanted = Annotated[QueryText | None, Query(max_length=254)]
Cursor = Annotated[QueryText | None, Query(max_length=CURSOR_MAX, description="`nextCursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100)]


def support_routes(desk: CaseDesk, stuck: StuckDesk, staff: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """Return the routes; `staff` lets in who may see cases."""
    router = APIRouter(prefix="/v1/support", tags=["Support"], responses={**STAFF_RESPONSES})
    Staff = Annotated[Principal, Depends(staff)]  # noqa: N806 - a type

    @router.get("/cases", summary="Find cases", responses=_CASE)
    async def find_cases(
        _staff: Staff,
        *,
        voter: Wanted = None,
        mail: Wanted = None,
        phone: Wanted = None,
        submission: Wanted = None,
        registration: Wanted = None,
        workflow: Wanted = None,
        stage: Annotated[
            WaitingStage | None,
            Query(
                description="Of a registration; of a login `step_up`, of a recovery `sent`, of a "
                "deletion `requested`, `stopped` or `closed`."
            ),
        ] = None,
        older_than: Annotated[
            int | None, Query(ge=0, le=_AGE_MAX_S, description="Seconds at `stage`, or without one since it began.")
        ] = None,
        escalated: Annotated[bool, Query(description="Those alone that somebody else should look at.")] = False,
        cursor: Cursor = None,
        limit: Limit = 20,
    ) -> CasePage:
        """Find cases by exactly one of these, or open ones by any of `stage`, `older_than` and `escalated`.

        Votes are found by their own submission ids alone: there is no list of who voted, or where.
        """
        ways = {
            Way.VOTER: voter,
            Way.MAIL: mail,
            Way.PHONE: phone,
            Way.SUBMISSION: submission,
            Way.REGISTRATION: registration,
            Way.WORKFLOW: workflow,
        }
        wanted = [(way, value) for way, value in ways.items() if value is not None]
        lists_open = stage is not None or older_than is not None or escalated
        if len(wanted) + lists_open != 1:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, f"give one of {', '.join(ways)}, or say which are open")
        if lists_open:
            sought = Waiting(stage, timedelta(seconds=older_than or 0), escalated)
            return CasePage.of(await desk.waiting(sought, cursor, limit))
        return CasePage.of(await desk.find(*wanted[0], cursor, limit))

    @router.get("/cases/{case_id}", summary="Read a case", responses=_CASE)
    async def read_case(case_id: CaseId, principal: Staff) -> CaseFileBody:
        """Read how a case stands: its stage, its process, what is tried again, and how its voter is reached, masked."""
        return CaseFileBody.of(await desk.read(case_id, principal))

    @router.get("/cases/{case_id}/timeline", summary="Read what happened in a case", responses=_CASE)
    async def read_timeline(
        case_id: CaseId,
        principal: Staff,
        first: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=_STEPS_MAX)] = _STEPS_MAX,
    ) -> TimelineBody:
        """Read the steps of a case over all of its processes, each as far as the role of whoever asks goes.

        What the server has dropped is read out of the archive. Of a vote there are names and instants alone: the other
        votes of its batch are in the same history.
        """
        found = await desk.read_timeline(case_id, principal)
        return TimelineBody.of(case_id, found, first, limit, principal.roles)

    @router.get(
        "/stuck",
        summary="Read what stays longer than it should",
        responses=problem_responses(ErrorCode.CELL_UNAVAILABLE, ErrorCode.AUDIT_LOG_UNAVAILABLE),
    )
    async def read_stuck(_staff: Staff, limit: Limit = 20) -> StuckPage:
        """Read which processes are late against the target of their stage, and what they try again and again."""
        return StuckPage.of(await stuck.look(limit))

    return router
