"""What open cases are listed by: the stage that they wait at, their age, or that somebody should look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from domain.account_ends import DeletionStage
from domain.cases import Case, CaseKind
from domain.registrations import RegistrationStage
from domain.support_actions import SENT, STEP_UP


class WaitingStage(StrEnum):
    """Where open cases stay; the words of the directory, and each of one kind of case alone."""

    CONTACT_PROOF = RegistrationStage.CONTACT_PROOF.value
    PROOFING = RegistrationStage.PROOFING.value
    REVIEW = RegistrationStage.REVIEW.value
    RETRY = RegistrationStage.RETRY.value
    ACTIVATION = RegistrationStage.ACTIVATION.value
    STEP_UP = STEP_UP  # of a login
    SENT = SENT  # of a recovery
    REQUESTED = DeletionStage.REQUESTED.value
    STOPPED = DeletionStage.STOPPED.value
    CLOSED = DeletionStage.CLOSED.value


@dataclass(frozen=True, slots=True)
class _Search:
    """Which process waits at a stage, and what it has noted: empty for one that has noted none, nothing for any."""

    kind: CaseKind
    process: str
    noted: tuple[str, ...] = ()


_S: Final = WaitingStage
_PROOFING: Final = "VerifyIdentity"
SEARCHES: Final[Mapping[WaitingStage, _Search]] = {
    _S.CONTACT_PROOF: _Search(CaseKind.REGISTRATION, "RegisterVoter", (_S.CONTACT_PROOF,)),
    _S.PROOFING: _Search(CaseKind.REGISTRATION, _PROOFING, (_S.PROOFING, "")),  # also what no provider has taken up
    _S.REVIEW: _Search(CaseKind.REGISTRATION, _PROOFING, (_S.REVIEW,)),
    _S.RETRY: _Search(CaseKind.REGISTRATION, _PROOFING, (_S.RETRY,)),
    _S.ACTIVATION: _Search(CaseKind.REGISTRATION, _PROOFING, (_S.ACTIVATION,)),
    _S.STEP_UP: _Search(CaseKind.LOGIN, "AssessLogin"),
    _S.SENT: _Search(CaseKind.RECOVERY, "RecoverAccount"),
    _S.REQUESTED: _Search(CaseKind.DELETION, "DeleteAccount", ("",)),
    _S.STOPPED: _Search(CaseKind.DELETION, "DeleteAccount", (_S.STOPPED,)),
    _S.CLOSED: _Search(CaseKind.DELETION, "DeleteAccount", (_S.CLOSED,)),
}
_OF_CASES: Final = ("RegisterVoter", "AssessLogin", "RecoverAccount", "DeleteAccount")  # one of each, while it is open


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open cases that are older: at a stage those that came there before, else whatever began before."""

    stage: WaitingStage | None = None
    older_than: timedelta = timedelta(0)
    escalated: bool = False

    @property
    def processes(self) -> Sequence[str]:
        """The types of the processes that are looked for."""
        if self.stage is not None:
            return (SEARCHES[self.stage].process,)
        return (*_OF_CASES, _PROOFING) if self.escalated else _OF_CASES

    @property
    def noted(self) -> Sequence[str]:
        """What these processes have noted as their stage; nothing where that does not matter."""
        return () if self.stage is None else SEARCHES[self.stage].noted

    def takes(self, case: Case, before: datetime) -> bool:
        """Tell whether a case, as the directory has it now, is one of them."""
        if self.stage is None:
            return case.began_at <= before
        return case.kind is SEARCHES[self.stage].kind and case.stage == self.stage and case.changed_at <= before
