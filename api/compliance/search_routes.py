"""The search of audit logs: `/v1/compliance/logs/{log}/entries`."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from api.compliance.bodies import FoundEntriesBody
from api.compliance.log_routes import LogName
from api.compliance.searching import SearchDesk
from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.models import QueryText
from domain.errors import DomainError, ErrorCode
from domain.log_search import Sought

_PAGE_MAX: Final = 100
_ERRORS = problem_responses(
    ErrorCode.NOT_FOUND,
    ErrorCode.OBJECTS_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_CONTRADICTED,
)

Wanted = Annotated[QueryText | None, Query(min_length=1, max_length=200)]
Moment = Annotated[datetime | None, Query(description="An instant with its zone (RFC 3339).")]


def search_routes(desk: SearchDesk, officers: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """Return the route; `officers` lets in who may read audit logs."""
    router = APIRouter(
        prefix="/v1/compliance/logs",
        tags=["Audit logs"],
        responses={**STAFF_RESPONSES},
        dependencies=[Depends(officers)],
    )

    @router.get("/{log}/entries", summary="Find entries", responses=_ERRORS)
    async def find_entries(
        *,
        log: LogName,
        subject: Wanted = None,
        kind: Wanted = None,
        actor: Wanted = None,
        since: Annotated[Moment, Query(alias="from")] = None,
        until: Annotated[Moment, Query(alias="to")] = None,
        cursor: Annotated[QueryText | None, Query(pattern="^[0-9]{1,12}$")] = None,
        limit: Annotated[int, Query(ge=1, le=_PAGE_MAX)] = 50,
    ) -> FoundEntriesBody:
        """Find sealed entries by the case or object that they name, their kind, who acted, and when; the newest first.

        Batches of votes are not found: nobody acted, and their receipts lead to them.
        """
        if any(moment is not None and moment.tzinfo is None for moment in (since, until)):
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "from, to: an instant has a zone")
        sought = Sought(subject, kind, actor, since, until)
        return FoundEntriesBody.of(log, await desk.find(log, sought, None if cursor is None else int(cursor), limit))

    return router
