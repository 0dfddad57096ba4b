"""Who may vote in which survey, and the two values that admission gives a vote: nullifier and evidence."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from domain.errors import DomainError, ErrorCode
from domain.framing import framed
from domain.tokens import Assurance

NULLIFIER_DOMAIN = b"comitia/nullifier/1"
EVIDENCE_DOMAIN = b"comitia/evidence/1"
VERIFIED = frozenset({Assurance.SUBSTANTIAL, Assurance.HIGH})
AGE_CLASSES = (0, 16, 18)  # years that a voter is known to have reached


class VoterStatus(StrEnum):
    """Where an account is in its life."""

    REGISTERED = "registered"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class Asked(NamedTuple):
    """Who asks for a voting token of which survey, and the keyed hash of the session's device, if it is known."""

    voter_id: str
    survey_id: str
    device: bytes | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the directory knows of a voter who asks for a voting token of one survey.

    `device_flags` are what the newest event of that device said against it, and `device_seen_at` is when; none where it
    was never seen on this voter.
    """

    voter_id: str
    person_id: str | None
    status: VoterStatus
    assurance: Assurance
    region: str
    age_class: int
    on_roll: bool
    device_flags: frozenset[str] = frozenset()
    device_seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who one survey is for, and its key; `regions` empty means every region."""

    survey_id: str
    regions: frozenset[str]
    minimum_age: int
    roll_required: bool
    start_at: datetime | None
    finish_at: datetime | None
    eligibility_key: bytes = field(repr=False)


class VoterDirectory(Protocol):
    """What admission reads of one cell's identities."""

    async def candidates(self, asked: Sequence[Asked]) -> Sequence[Candidate | None]:
        """Return, in order, each as seen by that survey's roll, or None for no such voter.

        Raises DomainError `directory_unavailable`.
        """
        ...


class Electorates(Protocol):
    """The surveys that one cell admits to."""

    async def get(self, survey_id: str) -> Electorate | None:
        """Return an installed survey's electorate, at most a second old, or None.

        Raises DomainError `directory_unavailable`, `key_unavailable` or `key_destroyed`.
        """
        ...


def admit(candidate: Candidate | None, electorate: Electorate | None, now: datetime) -> str:
    """Return the person id of a voter who may vote in a survey.

    A token may be had before the survey opens: casting checks the window again.

    Raises:
        DomainError: the first reason that stands against it.
    """
    if electorate is None:
        raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
    if electorate.finish_at is not None and now >= electorate.finish_at:
        raise DomainError(ErrorCode.SURVEY_CLOSED)
    if candidate is None:
        raise DomainError(ErrorCode.VOTER_NOT_FOUND)
    if candidate.status is not VoterStatus.ACTIVE:
        raise DomainError(ErrorCode.VOTER_NOT_ACTIVE)
    if candidate.person_id is None or candidate.assurance not in VERIFIED:
        raise DomainError(ErrorCode.VOTER_NOT_VERIFIED)
    if electorate.regions and candidate.region not in electorate.regions:
        raise DomainError(ErrorCode.REGION_NOT_ELIGIBLE)
    if candidate.age_class < electorate.minimum_age:
        raise DomainError(ErrorCode.AGE_NOT_ELIGIBLE)
    if electorate.roll_required and not candidate.on_roll:
        raise DomainError(ErrorCode.NOT_ON_ROLL)
    return candidate.person_id


def nullifier(eligibility_key: bytes, person_id: str) -> bytes:
    """Return the 32 bytes that one person leaves in one survey, the same for every account the person ever has.

    HMAC-SHA256 under the survey's own key: without it, it says nothing about the person.
    """
    return hmac.digest(eligibility_key, framed(NULLIFIER_DOMAIN, person_id.encode()), hashlib.sha256)


def evidence_message(survey_id: str, nullifier: bytes, cell: str, region: str) -> bytes:
    """Return the bytes that the issuer signs: that this nullifier was admitted to this survey.

    Test vector: the SHA-256 of ("s_aaaaaaaaaaaaaaaa", 32 bytes of 0x11, "eu", "DE") is
    6a6b4a10fd5bc70add36753e770de416c0c8cac6c8dda6947e8cc7b7c41c3bda.
    """
    return framed(EVIDENCE_DOMAIN, survey_id.encode(), nullifier, cell.encode(), region.encode())
