"""Break-glass: `/v1/support/unmaskings`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.idempotency import Key
from api.http.models import ApiModel, QueryText, Timestamp
from api.support.unmasking import UnmaskingDesk
from domain.contracts.support import UnmaskingState
from domain.errors import ErrorCode
from domain.masking import MaskedField
from domain.unmasking import UnmaskingReason, UnmaskingStage

_AWAY = (
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_UNAVAILABLE,
)
_RECORDS = (ErrorCode.CASE_NOT_FOUND, ErrorCode.KEY_UNAVAILABLE, ErrorCode.KEY_DESTROYED)

UnmaskingId = Annotated[QueryText, Path(max_length=64)]


class UnmaskingOrder(ApiModel):
    """One masked field of one case, and why it has to be read."""

    case_id: str = Field(max_length=64)
    field: MaskedField = Field(strict=False)
    reason: UnmaskingReason = Field(strict=False)


class DecisionBody(ApiModel):
    """What a second person says."""

    approved: bool


class UnmaskingBody(ApiModel):
    """Where an unmasking stands; `expiresAt` is until when it waits, or can be read."""

    unmasking_id: str
    case_id: str
    field: str
    reason: str
    stage: UnmaskingStage = Field(strict=False)
    asked_by: str
    decided_by: str = Field(default="", exclude_if=lambda value: not value)
    expires_at: Timestamp | None = None
    value: str | None = Field(
        default=None,
        description="To whoever asked, while it is `approved`; each reading is an audit entry.",
        exclude_if=lambda value: value is None,
        repr=False,
    )

    @classmethod
    def of(cls, state: UnmaskingState, value: str | None = None) -> "UnmaskingBody":
        """Return where it stands, with the value where it may be seen."""
        return cls(
            unmasking_id=state.request_id,
            case_id=state.case_id,
            field=state.field,
            reason=state.reason,
            stage=state.stage,
            asked_by=state.asked_by,
            decided_by=state.decided_by,
            expires_at=state.expires_at,
            value=value,
        )


def unmasking_routes(
    desk: UnmaskingDesk,
    *,
    staff: Callable[..., Awaitable[Principal]],
    deciders: Callable[..., Awaitable[Principal]],
    readers: Callable[..., Awaitable[Principal]],
) -> APIRouter:
    """Return the routes; `staff` lets in who may ask, `deciders` who may decide what others asked, `readers` both."""
    router = APIRouter(prefix="/v1/support/unmaskings", tags=["Support"], responses={**STAFF_RESPONSES})
    Staff = Annotated[Principal, Depends(staff)]  # noqa: N806 - a type
    Decider = Annotated[Principal, Depends(deciders)]  # noqa: N806
    Reader = Annotated[Principal, Depends(readers)]  # noqa: N806

    @router.post(
        "",
        status_code=202,
        summary="Ask to read a masked field",
        responses=problem_responses(*_RECORDS, ErrorCode.UNMASKING_NOT_FOUND, *_AWAY),
    )
    async def ask(order: UnmaskingOrder, principal: Staff, key: Key) -> UnmaskingBody:
        """Ask to read one masked field of one case; a second person decides within 15 minutes."""
        return UnmaskingBody.of(await desk.ask(order.case_id, order.field, order.reason, key, principal))

    @router.post(
        "/{unmasking_id}/decision",
        summary="Approve or refuse what somebody else asked to read",
        responses=problem_responses(ErrorCode.UNMASKING_NOT_FOUND, ErrorCode.UNMASKING_STAGE, *_AWAY),
    )
    async def decide(unmasking_id: UnmaskingId, body: DecisionBody, principal: Decider, key: Key) -> UnmaskingBody:
        """Decide as a second person of compliance or administration; whoever asked is refused."""
        return UnmaskingBody.of(await desk.decide(unmasking_id, key, principal, approved=body.approved))

    @router.get(
        "/{unmasking_id}",
        summary="Read an unmasking, and the field while that is approved",
        responses=problem_responses(*_RECORDS, ErrorCode.UNMASKING_NOT_FOUND, ErrorCode.UNMASKING_STAGE, *_AWAY),
    )
    async def read(unmasking_id: UnmaskingId, principal: Reader) -> UnmaskingBody:
        """Read where it stands. Whoever asked sees the field for 10 minutes once it is approved."""
        return UnmaskingBody.of(*await desk.read(unmasking_id, principal))

    return router
