"""What support does in cases: `/v1/support/cases/{id}/actions`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path
from pydantic import Field

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.models import ApiModel, QueryText
from api.support.acting import ActionDesk
from domain.case_actions import REASON, CaseAction
from domain.errors import ErrorCode

_ASKED = problem_responses(
    ErrorCode.CASE_NOT_FOUND,
    ErrorCode.REGISTRATION_STAGE,
    ErrorCode.RATE_LIMITED,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
)


class ActionBody(ApiModel):
    """What to ask of the process of a case, and why, as a code: `asked_by_telephone`."""

    action: CaseAction = Field(strict=False)
    reason: str = Field(pattern=f"^{REASON.pattern}$")


def action_routes(desk: ActionDesk, support: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """Return the route; `support` lets in who may act."""
    router = APIRouter(prefix="/v1/support", tags=["Support"], responses={**STAFF_RESPONSES})
    Staff = Annotated[Principal, Depends(support)]  # noqa: N806 - a type

    @router.post("/cases/{case_id}/actions", status_code=204, summary="Ask something of a case", responses=_ASKED)
    async def act(
        case_id: Annotated[QueryText, Path(max_length=64)],
        body: ActionBody,
        principal: Staff,
        key: Annotated[
            str,
            Header(
                alias="Idempotency-Key",
                pattern=r"^[\x21-\x7e]{8,128}$",
                description="The same key is the same request: it is asked once, however often it is sent.",
            ),
        ],
    ) -> None:
        """Ask a process to send its code again, to look at the provider now, or to end; kept with who asks and why.

        The process decides whether it can; 409 `registration_stage` says that it is at another stage.
        """
        await desk.act(case_id, body.action, body.reason, principal.actor, key)

    return router
