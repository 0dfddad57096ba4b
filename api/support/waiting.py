"""What open cases are listed by: the stage that registrations wait at, their age, or that somebody should look."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.cases import Case
from domain.errors import DomainError, ErrorCode
from domain.registrations import ENDED, RegistrationStage

_PROOFING: Final = "VerifyIdentity"
_PROCESSES: Final = {RegistrationStage.CONTACT_PROOF: "RegisterVoter"}  # at any other stage the proofing of one waits
_OF_CASES: Final = ("RegisterVoter", "AssessLogin", "RecoverAccount", "DeleteAccount")  # one of each, while it is open


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open cases that are older: at a stage registrations that came there before, else whatever began before."""

    stage: RegistrationStage | None = None
    older_than: timedelta = timedelta(0)
    escalated: bool = False

    def __post_init__(self) -> None:
        """Raise DomainError `malformed_request` for a stage that nothing stays at."""
        if self.stage in ENDED:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "stage: nothing waits there")

    @property
    def processes(self) -> Sequence[str]:
        """The types of the processes that are looked for."""
        if self.stage is not None:
            return (_PROCESSES.get(self.stage, _PROOFING),)
        return (*_OF_CASES, _PROOFING) if self.escalated else _OF_CASES

    @property
    def noted(self) -> Sequence[str]:
        """What these processes have noted as their stage; nothing where that does not matter."""
        if self.stage is None:
            return ()
        # A case that its provider has not taken up yet has noted none
        return (self.stage, "") if self.stage is RegistrationStage.PROOFING else (self.stage,)

    def takes(self, case: Case, before: datetime) -> bool:
        """Tell whether a case, as the directory has it now, is one of them."""
        if self.stage is None:
            return case.began_at <= before
        return case.stage == self.stage and case.changed_at <= before
