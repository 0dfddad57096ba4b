"""Recorded decisions under another policy, as the process that compares them keeps it: ids, codes and counts."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract
from domain.replay import Verdict


class DecisionProcess(StrEnum):
    """Whose decisions are kept with what they were made from."""

    LOGIN = "login"
    IDENTITY = "identity"


class JudgedOutcome(Contract):
    """A decision and why, in codes; `score_permille` is 0 where there is no score."""

    decision: str
    reasons: tuple[str, ...] = ()
    score_permille: int = 0


class RejudgedDecision(Contract):
    """One recorded decision, and what it comes to under the other policy.

    `subject` is the id of a login attempt, or the workflow id of a proofing. `verdict` is `different` where another
    decision would be made; other reasons or another score alone are none. `why` says why it cannot be said.
    """

    subject: str
    verdict: Verdict
    at: datetime | None = None
    policy_version: int = 0
    before: JudgedOutcome | None = None
    after: JudgedOutcome | None = None
    why: str = ""


class OutcomeChange(Contract):
    """How many decisions would change from the one into the other."""

    before: str
    after: str
    count: int


class RejudgedCounts(Contract):
    """How many decisions were judged again, by verdict, and which would change into which."""

    same: int = 0
    different: int = 0
    cannot: int = 0
    changes: tuple[OutcomeChange, ...] = ()


class RejudgeStep(Contract):
    """A stretch to judge, as far as that goes in some seconds; `policy` is a JSON document."""

    process: DecisionProcess
    policy: str
    since: datetime
    until: datetime


class RejudgedPart(Contract):
    """What was judged of a stretch: everything before `until`."""

    until: datetime
    counts: RejudgedCounts
    sample: tuple[RejudgedDecision, ...] = ()


class RejudgementState(Contract):
    """How far a comparison is: all before `judged_until` is counted; `sample` is some of what is not the same.

    One that `is_cancelled` gets no further.
    """

    rejudgement_id: str
    process: DecisionProcess
    since: datetime
    until: datetime
    judged_until: datetime
    counts: RejudgedCounts = RejudgedCounts()
    sample: tuple[RejudgedDecision, ...] = ()
    is_cancelled: bool = False


class RejudgeInput(Contract):
    """Compares the decisions of one process in one cell, of a period; `state` is how far an earlier run of it came."""

    rejudgement_id: str
    cell: str
    process: DecisionProcess
    since: datetime
    until: datetime
    policy: str
    state: RejudgementState | None = None
