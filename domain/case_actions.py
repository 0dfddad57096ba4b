"""What support may do in a case: a message to its process, never a change of a record."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol

from domain.cases import Case, CaseKind
from domain.errors import DomainError, ErrorCode
from domain.registrations import AT_THE_PROVIDER, ENDED, RegistrationStage

REASON: Final = re.compile(r"[a-z0-9_:-]{4,80}")  # a code, since it is kept for good: `asked_by_telephone`


class CaseAction(StrEnum):
    """What can be asked of a registration's process."""

    RESEND_CODE = "resend_code"  # another code to the same address; the one before is not good any more
    LOOK_NOW = "look_now"  # at the provider, without waiting for its next turn
    CANCEL = "cancel"  # as the person could


_PERMITTED: Final[Mapping[CaseAction, frozenset[str]]] = {
    CaseAction.RESEND_CODE: frozenset({RegistrationStage.CONTACT_PROOF}),
    CaseAction.LOOK_NOW: frozenset({*AT_THE_PROVIDER, RegistrationStage.ACTIVATION}),
    CaseAction.CANCEL: frozenset(RegistrationStage) - ENDED,
}


def check_permitted(action: CaseAction, case: Case) -> None:
    """Refuse what cannot be done at the stage of a case; its process decides once more.

    Raises:
        DomainError: `registration_stage`.
    """
    if case.kind is not CaseKind.REGISTRATION or case.stage not in _PERMITTED[action]:
        raise DomainError(ErrorCode.REGISTRATION_STAGE, f"{action} is for another stage")


class CaseActions(Protocol):
    """What was asked in the cases of one cell. Raises DomainError `directory_unavailable`."""

    async def note(self, case: Case, action: CaseAction, reason: str, actor: str, key: str) -> None:
        """Keep who asks for what and why, with an audit entry, before it is asked of the process.

        Safe to repeat: the same `key` is one entry.
        """
        ...
