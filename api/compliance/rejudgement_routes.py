"""Recorded decisions under another policy: `/v1/compliance/rejudgements`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field

from api.compliance.rejudgements import RejudgementDesk, RejudgementOrder
from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.idempotency import Key
from api.http.limits import FrameworkRequest, Limits
from api.http.models import ApiModel, QueryText, Timestamp
from domain.contracts.rejudging import (
    DecisionProcess,
    JudgedOutcome,
    OutcomeChange,
    RejudgedDecision,
    RejudgementState,
)
from domain.contracts.work import WorkStage
from domain.errors import ErrorCode
from domain.limits import REJUDGE
from domain.replay import Verdict

_PREFIX = "/v1/compliance/rejudgements"
_AWAY = (
    ErrorCode.NOT_FOUND,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_UNAVAILABLE,
)


class RejudgementOrderBody(ApiModel):
    """Whose decisions are judged again, of which period of a cell, and under which policy."""

    cell: str = Field(max_length=16)
    process: DecisionProcess = Field(strict=False)
    since: Timestamp = Field(alias="from", description="Logins decided, or identity cases begun, at or after.")
    until: Timestamp = Field(alias="to", description="And before; not in the future.")
    policy: dict[str, Any] = Field(
        description="`version` alone names one of the table; with other fields, what differs from the current policy.",
        examples=[{"version": 2, "challenge_from_permille": 50}],
    )

    def order(self) -> RejudgementOrder:
        """Return it as the desk takes it."""
        return RejudgementOrder(self.cell, self.process, self.since, self.until, self.policy)


class OutcomeBody(ApiModel):
    """A decision and why, in codes."""

    decision: str
    reasons: tuple[str, ...] = Field(strict=False)
    score_permille: int = Field(description="0 where there is no score.")

    @classmethod
    def of(cls, outcome: JudgedOutcome | None) -> "OutcomeBody | None":
        """Return an outcome as it is shown."""
        if outcome is None:
            return None
        return cls(decision=outcome.decision, reasons=outcome.reasons, score_permille=outcome.score_permille)


class RejudgedBody(ApiModel):
    """A decision that would not be the same, or of which that cannot be said: then `why` is a code."""

    subject: str = Field(description="The id of a login attempt, or the workflow id of a proofing.")
    verdict: Verdict = Field(strict=False)
    at: Timestamp | None
    policy_version: int = Field(description="That it was made under; 0 where that cannot be read.")
    before: OutcomeBody | None
    after: OutcomeBody | None
    why: str

    @classmethod
    def of(cls, found: RejudgedDecision) -> "RejudgedBody":
        """Return a decision as it is shown."""
        return cls(
            subject=found.subject,
            verdict=found.verdict,
            at=found.at,
            policy_version=found.policy_version,
            before=OutcomeBody.of(found.before),
            after=OutcomeBody.of(found.after),
            why=found.why,
        )


class ChangeBody(ApiModel):
    """How many decisions would change from the one into the other."""

    before: str
    after: str
    count: int

    @classmethod
    def of(cls, change: OutcomeChange) -> "ChangeBody":
        """Return a change as it is shown."""
        return cls(before=change.before, after=change.after, count=change.count)


class RejudgementBody(ApiModel):
    """How far a comparison is: everything before `judgedUntil` is counted. `sample` are some of those not the same."""

    rejudgement_id: str
    process: DecisionProcess = Field(strict=False)
    since: Timestamp = Field(alias="from")
    until: Timestamp = Field(alias="to")
    judged_until: Timestamp
    finished: bool
    status: WorkStage = Field(strict=False)
    same: int
    different: int
    cannot: int
    changes: tuple[ChangeBody, ...] = Field(strict=False)
    sample: tuple[RejudgedBody, ...] = Field(strict=False)

    @classmethod
    def of(cls, state: RejudgementState) -> "RejudgementBody":
        """Return a comparison as it is shown."""
        return cls(
            rejudgement_id=state.rejudgement_id,
            process=state.process,
            since=state.since,
            until=state.until,
            judged_until=state.judged_until,
            finished=state.judged_until >= state.until,
            status=stage_of(state),
            same=state.counts.same,
            different=state.counts.different,
            cannot=state.counts.cannot,
            changes=tuple(map(ChangeBody.of, state.counts.changes)),
            sample=tuple(map(RejudgedBody.of, state.sample)),
        )


def stage_of(state: RejudgementState) -> WorkStage:
    """Return where a comparison stands."""
    if state.is_cancelled:
        return WorkStage.CANCELLED
    return WorkStage.FINISHED if state.judged_until >= state.until else WorkStage.RUNNING


def rejudgement_routes(
    desk: RejudgementDesk, officers: Callable[..., Awaitable[Principal]], limits: Limits
) -> APIRouter:
    """Return the routes; `officers` lets in who may compare decisions."""
    router = APIRouter(prefix=_PREFIX, tags=["Rejudgements"], responses={**STAFF_RESPONSES})
    Officer = Annotated[Principal, Depends(officers)]  # noqa: N806 - a type
    orders = limits.subjects(REJUDGE)

    @router.post(
        "",
        status_code=202,
        summary="Judge recorded decisions again under another policy",
        responses=problem_responses(*_AWAY, ErrorCode.DIRECTORY_UNAVAILABLE, ErrorCode.IDEMPOTENCY_KEY_USED),
    )
    async def ask(
        order: RejudgementOrderBody, principal: Officer, key: Key, request: Request, response: Response
    ) -> RejudgementBody:
        """Begin to judge what was kept of decisions under another policy. Nothing is changed, and nobody is asked."""
        orders.take(FrameworkRequest(request), principal.actor)
        state = await desk.ask(order.order(), key, principal)
        response.headers["Location"] = f"{_PREFIX}/{state.rejudgement_id}"
        return RejudgementBody.of(state)

    @router.get("/{rejudgement_id}", summary="Read how far a rejudgement is", responses=problem_responses(*_AWAY))
    async def read(rejudgement_id: Annotated[QueryText, Path(max_length=64)], _principal: Officer) -> RejudgementBody:
        """Read what was judged so far: how many decisions would change into what, and a sample of them."""
        return RejudgementBody.of(await desk.read(rejudgement_id))

    @router.put(
        "/{rejudgement_id}/cancel",
        summary="Cancel a rejudgement",
        responses=problem_responses(*_AWAY, ErrorCode.WORK_ENDED, ErrorCode.DIRECTORY_UNAVAILABLE),
    )
    async def cancel(rejudgement_id: Annotated[QueryText, Path(max_length=64)], principal: Officer) -> RejudgementBody:
        """End it as far as it is: what was judged until now can still be read. Asked again, it stays cancelled."""
        return RejudgementBody.of(await desk.cancel(rejudgement_id, principal))

    return router
