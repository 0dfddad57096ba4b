"""Registrations as their owners see them: a copy of where the process stands, kept so that asking costs no workflow."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class RegistrationStage(StrEnum):
    """Where a registration stands; the words of the API and of `ProcessStage`."""

    CONTACT_PROOF = "contact_proof"  # a code was sent to the address
    PROOFING = "proofing"  # the person's turn at the provider
    REVIEW = "review"  # the provider's turn
    RETRY = "retry"  # the person's turn again, with reasons
    ACTIVATION = "activation"  # approved: the person is claimed, the account made
    ACTIVE = "active"
    REJECTED = "rejected"  # by the provider's last word
    REFUSED = "refused"  # by a rule of ours
    EXPIRED = "expired"
    CANCELLED = "cancelled"  # by the person


ENDED = frozenset(
    {
        RegistrationStage.ACTIVE,
        RegistrationStage.REJECTED,
        RegistrationStage.REFUSED,
        RegistrationStage.EXPIRED,
        RegistrationStage.CANCELLED,
    }
)
AT_THE_PROVIDER = frozenset({RegistrationStage.PROOFING, RegistrationStage.REVIEW, RegistrationStage.RETRY})


@dataclass(frozen=True, slots=True)
class ProofingCase:
    """One case of a registration at a provider; `case_no` from 1, an appeal is the next one."""

    registration_id: str
    case_no: int
    provider: str
    reference: str = field(repr=False)
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration as its API shows it; the workflow decides, and notes what it decided here.

    `reasons` are shown to the person: codes, or labels of the provider. `staff_reasons` say more, and only to staff.
    `revision` rises with every note. `reference` is the provider's, of case `case_no`; empty before there is one.
    `secret_key_id` names the key of its person's secret; empty where a release began it that gave none.
    """

    registration_id: str
    voter_id: str
    region: str
    created_at: datetime
    stage: RegistrationStage = RegistrationStage.CONTACT_PROOF
    reasons: tuple[str, ...] = ()
    staff_reasons: tuple[str, ...] = ()
    case_no: int = 0
    provider: str = ""
    reference: str = field(default="", repr=False)
    expires_at: datetime | None = None
    revision: int = 0
    secret_key_id: str = ""


@dataclass(frozen=True, slots=True)
class StageNote:
    """What becomes of a registration; a note older than what is kept (by `revision`, from 1) changes nothing.

    `policy_version` is that of the rules that it is decided by, 0 where a process of a release before did not say it.
    """

    registration_id: str
    revision: int
    stage: RegistrationStage
    reasons: tuple[str, ...] = ()
    staff_reasons: tuple[str, ...] = ()
    case_no: int = 0
    provider: str = ""
    reference: str = field(default="", repr=False)
    expires_at: datetime | None = None
    policy_version: int = 0


class Registrations(Protocol):
    """The registrations of one cell. All calls raise DomainError `directory_unavailable`."""

    async def begin(
        self,
        registration_id: str,
        voter_id: str,
        region: str,
        expires_at: datetime | None = None,
        secret_key_id: str = "",
    ) -> None:
        """Add a registration at the stage `contact_proof`, revision 0. Safe to repeat: the first one stands."""
        ...

    async def get(self, registration_id: str) -> Registration | None:
        """Return a registration, or None."""
        ...

    async def of_voter(self, voter_id: str) -> Registration | None:
        """Return the registration that a voter came from, or None."""
        ...

    async def note(self, note: StageNote) -> None:
        """Keep what became of a registration, in every field, and its case at the provider. Safe to repeat, any order.

        Raises:
            DomainError: `registration_not_found`.
        """
        ...

    async def unstarted(self, before: datetime, limit: int) -> Sequence[Registration]:
        """Return registrations begun before an instant of which nothing was ever noted (revision 0), oldest first."""
        ...

    async def case_at(self, provider: str, reference: str) -> ProofingCase | None:
        """Return the case that a provider knows by this reference, or None."""
        ...

    async def cases_of(self, voter_id: str) -> tuple[ProofingCase, ...]:
        """Return every case of a voter that a note has named, oldest first: each is to be erased in the end."""
        ...

    async def note_erased(self, registration_id: str, case_no: int) -> None:
        """Note that the provider has confirmed the erasure of a case. Safe to repeat."""
        ...
