"""Cases as support sees them: where each lives, how it stands, and what happened in it, step by step."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.contracts.base import Contract
from domain.errors import ErrorCode
from domain.ids import (
    ATTEMPT_ID,
    DELETION_ID,
    RECOVERY_ID,
    REGISTRATION_ID,
    assess_login_workflow_id,
    cell_in,
    delete_account_workflow_id,
    recover_account_workflow_id,
    register_voter_workflow_id,
)


class CaseKind(StrEnum):
    """What a case is about."""

    REGISTRATION = "registration"
    LOGIN = "login"
    RECOVERY = "recovery"
    DELETION = "deletion"
    SUBMISSION = "submission"  # of one vote: found by its own id, which its voter has, and by nothing else


@dataclass(frozen=True, slots=True)
class CaseAddress:
    """Where a case lives; its id names the cell, and makes the id of its workflow."""

    kind: CaseKind
    case_id: str
    cell: str
    workflow_id: str


_KINDS: Final = (
    (CaseKind.REGISTRATION, REGISTRATION_ID, register_voter_workflow_id),
    (CaseKind.LOGIN, ATTEMPT_ID, assess_login_workflow_id),
    (CaseKind.RECOVERY, RECOVERY_ID, recover_account_workflow_id),
    (CaseKind.DELETION, DELETION_ID, delete_account_workflow_id),
)
_SUBJECT: Final = re.compile(
    r"(?:register-voter|verify-identity|assess-login|recover-account|delete-account)/[a-z0-9]+/(?P<subject>[a-z0-9_]+)"
    r"(?:/\d+)?"
)


def case_at(case_id: str) -> CaseAddress | None:
    """Return the address of a case, or None where this is no id of one. Submissions are found apart."""
    for kind, pattern, workflow_id in _KINDS:
        cell = cell_in(pattern, case_id)
        if cell is not None:
            return CaseAddress(kind, case_id, cell, workflow_id(cell, case_id))
    return None


def vote_at(submission_id: str, cell: str) -> CaseAddress:
    """Return the address of a vote as a case; its id names no cell, and its batch's workflow is of many."""
    return CaseAddress(CaseKind.SUBMISSION, submission_id, cell, "")


def case_of_workflow(workflow_id: str) -> CaseAddress | None:
    """Return the case that a workflow belongs to, or None.

    A batch of votes belongs to many, so it leads to none of them.
    """
    found = _SUBJECT.fullmatch(workflow_id)
    return case_at(found["subject"]) if found else None


@dataclass(frozen=True, slots=True)
class Case:
    """A case as the directory has it. `voter_id` is empty where nobody of that name was found."""

    kind: CaseKind
    case_id: str
    voter_id: str
    stage: str
    began_at: datetime
    changed_at: datetime  # when it came to that stage


WORKFLOW_TASK: Final = "workflow_task"  # how it is named among activities


@dataclass(frozen=True, slots=True)
class PendingActivity:
    """An activity that has not succeeded yet; `code` is the last attempt's error, `again_at` when it is tried again.

    `scheduled_at` is of the attempt that is under way or comes next: of the first one there is an event alone. One
    named `workflow_task` is the process's own code, which fails since `failing_since`.
    """

    name: str
    attempts: int
    scheduled_at: datetime
    code: str = ""
    again_at: datetime | None = None
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How an execution stands now, as Temporal says."""

    workflow_id: str
    process: str
    status: str  # `running`, `completed`, `failed`, ...
    began_at: datetime
    ended_at: datetime | None = None
    stage: str = ""
    pending: tuple[PendingActivity, ...] = ()
    children: tuple[str, ...] = ()  # workflow ids of those that it started and that are open


class StepKind(StrEnum):
    """What a step of a timeline is."""

    BEGAN = "began"
    STAGE = "stage"
    ACTIVITY = "activity"
    TASK = "task"  # of the process's own code, which failed
    WAIT = "wait"
    ASKED = "asked"  # an update: whoever asked was answered
    TOLD = "told"  # a signal
    PROCESS = "process"  # another process that this one started
    ENDED = "ended"


class HistorySource(StrEnum):
    """Where a history is read from."""

    SERVER = "server"
    ARCHIVE = "archive"  # once the server has dropped it


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a process. What it was given and what came of it is shown by `domain/masking.py` alone.

    `until` is a deadline, of a wait or of a stage. `code` is an error of the catalogue. `by` is who asked or told.
    """

    at: datetime
    kind: StepKind
    process: str
    name: str
    state: str
    attempts: int = 0
    ended_at: datetime | None = None
    until: datetime | None = None
    code: str = ""
    by: str = ""
    given: Contract | None = field(default=None, repr=False)
    came: Contract | None = field(default=None, repr=False)
    source: HistorySource = HistorySource.SERVER


@dataclass(frozen=True, slots=True)
class Timeline:
    """The steps of a case, oldest first; `gaps` says by workflow id why more of one is archived than is read here."""

    steps: tuple[Step, ...]
    gaps: Mapping[str, str] = field(default_factory=dict)


SUPPORT_ASKS: Final = "support-"  # how ids of updates begin that support asked for before there was `take_action`

# Who stands behind another update or signal that names nobody.
ASKED_BY: Final[Mapping[str, str]] = {
    "prove_contact": "voter",
    "resend_code": "voter",
    "appeal": "voter",
    "cancel": "voter",
    "step_up": "voter",
    "link_used": "voter",
    "evidence_received": "provider",
    "withdrawn": "process",
}
_CODES: Final = frozenset(code.value for code in ErrorCode)


def known_code(text: str) -> str:
    """Return a code of the catalogue as it is, and anything else as `internal`: it may hold whatever it was made of."""
    return text if text in _CODES else ErrorCode.INTERNAL.value
