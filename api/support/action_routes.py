"""What staff have done to cases: `/v1/support/cases/{id}/actions`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.idempotency import Key
from api.http.models import ApiModel, QueryText
from api.support.acting import ActionDesk, Taken
from domain.errors import ErrorCode
from domain.support_actions import SupportAction, SupportReason

_ASKED = problem_responses(
    ErrorCode.CASE_NOT_FOUND,
    ErrorCode.CASE_STAGE,
    ErrorCode.REGISTRATION_STAGE,
    ErrorCode.IDEMPOTENCY_KEY_USED,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_UNAVAILABLE,
)


class ActionBody(ApiModel):
    """What to do, and why."""

    action: SupportAction = Field(strict=False)
    reason: SupportReason = Field(strict=False)


class ActionTakenBody(ApiModel):
    """What was done; `actionId` is in its audit entries and in the case's timeline."""

    action_id: str
    action: SupportAction = Field(strict=False)
    stage: str

    @classmethod
    def of(cls, taken: Taken) -> "ActionTakenBody":
        """Return what was done as support sees it."""
        return cls(action_id=taken.action_id, action=taken.action, stage=taken.stage)


def action_routes(desk: ActionDesk, staff: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """Return the route; `staff` lets in who may see cases, and the desk says who of them may do what."""
    router = APIRouter(prefix="/v1/support", tags=["Support"], responses={**STAFF_RESPONSES})
    Staff = Annotated[Principal, Depends(staff)]  # noqa: N806 - a type

    @router.post("/cases/{case_id}/actions", summary="Have something done to a case", responses=_ASKED)
    async def act(
        case_id: Annotated[QueryText, Path(max_length=64)], body: ActionBody, principal: Staff, key: Key
    ) -> ActionTakenBody:
        """Ask the case's process to do something; which role, stage and reasons that takes depends on the action.

        It is an audit entry before it is done, and what came of it is another. The process decides whether it can.
        """
        return ActionTakenBody.of(await desk.act(case_id, body.action, body.reason, key, principal))

    return router
