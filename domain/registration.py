"""The rules of registration: what ends it, and when people are reminded and given up.

All of it is data with a version: a decision keeps the version that it was made under.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from domain.proofing import ProofingPolicy
from domain.surveys import REGION

MAIL_FIELD = "mail"  # of a voter's personal data
ADVICE_FIELD = "proofing_advice"  # what the provider last said to the person

AGE_CLASSES = (0, 16, 18)  # years that are known to be reached
CODE_DIGITS = 8
CODE_TRIES_MAX = 5  # of one code
CODES_MAX = 4  # sent to one address in one registration
CODE_PAUSE = timedelta(seconds=30)  # between two codes
CASES_MAX = 3  # of one registration: the first, and two appeals
ATTEMPTS_MAX = 5  # at one case: who was asked to try again four times has shown what there is


class Reason(StrEnum):
    """Why we, and not the provider, say no; shown to the person, beside the provider's own labels."""

    MAIL_REFUSED = "mail_refused"
    MAIL_IN_USE = "mail_in_use"
    CODES_USED_UP = "codes_used_up"
    UNDER_AGE = "under_age"
    DUPLICATE_FACE = "duplicate_face"
    ALREADY_REGISTERED = "already_registered"
    REGISTERED_ELSEWHERE = "registered_elsewhere"
    ATTEMPTS_USED_UP = "attempts_used_up"
    CASE_GONE = "case_gone"
    CLAIM_CONTRADICTED = "claim_contradicted"  # a fault: staff must look
    REVERSED = "reversed"  # the provider took its approval back
    NOT_FINISHED = "not_finished"  # the time was over
    CANCELLED = "cancelled"  # by the person
    NOT_DECIDED = "not_decided"  # a fault: staff must look


# What a second look can change. Who has an account keeps it, and who let the time pass begins again.
_FINAL = frozenset(
    {Reason.ALREADY_REGISTERED, Reason.REGISTERED_ELSEWHERE, Reason.NOT_FINISHED, Reason.CANCELLED, Reason.REVERSED}
)


def may_appeal(reasons: Sequence[str]) -> bool:
    """Tell whether what these reasons ended may be looked at once more, in a new case."""
    return not _FINAL.intersection(reasons)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long one stage waits for the person, and after how long it reminds."""

    expires_after: timedelta
    remind_after: tuple[timedelta, ...] = ()

    def next_reminder(self, sent: int) -> timedelta | None:
        """Return after how long the next reminder is due, or None where there is none."""
        return self.remind_after[sent] if sent < len(self.remind_after) else None


CONTACT = Schedule(timedelta(days=3), (timedelta(days=1),))
PROOFING = Schedule(timedelta(days=14), (timedelta(days=2), timedelta(days=7), timedelta(days=12)))
REVIEW = Schedule(timedelta(days=30))  # nobody is reminded: it is the provider who takes so long
APPEAL = Schedule(timedelta(days=14))
ERASED_WITHIN = timedelta(days=30)  # a provider confirms an erasure by then, or somebody has to ask it
CASE_LASTS = timedelta(days=90)  # at most, however often it goes back and forth

# A webhook is only a hint, and may be lost: how long the next look waits where none came,
# doubled from look to look.
_FIRST_LOOK, _LAST_LOOK = timedelta(seconds=30), timedelta(hours=6)


def pause_before_look(looks: int) -> timedelta:
    """Return how long to wait before asking the provider again by ourselves, after so many looks without news."""
    doubled: int = 2 ** min(looks, 20)
    return min(_FIRST_LOOK * doubled, _LAST_LOOK)


@dataclass(frozen=True, slots=True)
class RegistrationPolicy:
    """Who may register: `regions` empty means everybody's, `minimum_age` is 0, 16 or 18 years."""

    version: int = 1
    minimum_age: int = 16
    regions: frozenset[str] = frozenset()
    proofing: ProofingPolicy = field(default_factory=lambda: ProofingPolicy(version=1, default="sumsub"))

    def admits_region(self, region: str) -> bool:
        """Tell whether people of a region may register; one is named as surveys name theirs, whatever `regions` are."""
        return REGION.fullmatch(region) is not None and (not self.regions or region in self.regions)


def contact_code(seed: bytes) -> str:
    """Return the digits of a code made from the keyed hash of `code_seed`: the same number is the same code."""
    return str(int.from_bytes(seed, "big") % 10**CODE_DIGITS).zfill(CODE_DIGITS)


def code_seed(registration_id: str, number: int) -> str:
    """Return what the code of a number (from 1) is made from."""
    return f"seed/{registration_id}/{number}"


def code_value(registration_id: str, code: str) -> str:
    """Return what is hashed of a code, so that a hash is good for one registration alone."""
    return f"code/{registration_id}/{code}"


def age_class_of(years: int) -> int:
    """Return the age class of completed years: 0, 16 or 18."""
    return max(limit for limit in AGE_CLASSES if years >= limit)


def refusal_of(*, same_face: bool, age_class: int | None, minimum_age: int) -> Reason | None:
    """Return why a rule of ours refuses somebody whom a provider has approved, or None where none does."""
    if same_face:
        return Reason.DUPLICATE_FACE
    if age_class is None or age_class < minimum_age:
        return Reason.UNDER_AGE
    return None
