"""What support does to a case, and break-glass, as histories keep them: who asked for what, and no value."""

from datetime import datetime

from domain.contracts.base import Contract
from domain.support_actions import SupportAction
from domain.unmasking import UnmaskingStage, UnmaskingStep


class CaseAction(Contract):
    """What somebody has done to a case; `actor` as audit entries name them, `reason` a code."""

    action_id: str
    action: SupportAction
    actor: str
    reason: str


class CaseActionTaken(Contract):
    """The stage of the process once it is done."""

    stage: str


class UnlockAccountInput(Contract):
    """Lifts what keeps the voter of a case out: a wait after failures, or with `reinstates` a suspension."""

    action_id: str
    cell: str
    case_id: str
    voter_id: str
    reinstates: bool
    actor: str
    reason: str


class BreakGlassInput(Contract):
    """One field of one case that somebody asks to read; never its value."""

    request_id: str
    cell: str
    case_id: str
    field: str
    actor: str
    role: str
    reason: str


class DecideUnmasking(Contract):
    """What a second person says to it."""

    actor: str
    role: str
    approved: bool


class ReadUnmasking(Contract):
    """Who wants to read now."""

    actor: str


class UnmaskingState(Contract):
    """Where an unmasking stands. `expires_at` is until when it waits, or can be read."""

    request_id: str
    case_id: str
    field: str
    reason: str
    stage: UnmaskingStage
    asked_by: str
    decided_by: str = ""
    expires_at: datetime | None = None
    reads: int = 0


class UnmaskingNote(Contract):
    """A step of an unmasking, for its audit entry and for whoever watches over data; `key` tells repeats."""

    key: str
    request_id: str
    case_id: str
    field: str
    step: UnmaskingStep
    actor: str
    role: str
    reason: str
