"""Identity proofing: what a provider is asked, what it finds, and which provider a region may use.

A provider's finding names a document once, in memory: what is kept of it is a keyed hash (`DocumentHashes`). Neither
documents nor biometrics reach our stores, histories or logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from domain.tokens import Assurance


class ProofingState(StrEnum):
    """Where a case stands at the provider."""

    WAITING_FOR_PERSON = "waiting_for_person"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    RETRY = "retry"  # the person may try again with what `reasons` ask for
    REJECTED = "rejected"
    GONE = "gone"  # the provider knows no such case, or has erased it


@dataclass(frozen=True, slots=True)
class Document:
    """What makes a person unique: issuing country (ISO 3166 alpha-3), kind and number. Never stored as it is.

    Every provider calls a kind the same: `passport`, `id_card`, `residence_permit`, `driving_licence`, and others by
    its own word in lower case. The number is as it was read; `domain/canonical.py` gives it one spelling.
    """

    country: str
    kind: str
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProofingFinding:
    """What a provider says of a case now.

    `reasons` are the provider's labels in lower case, `advice` a text that may be shown to the person (or empty),
    `risk_labels` what the provider noticed besides (`group:label`, lower case), `same_face` its verdict that the face
    belongs to another case too. `document` and `born_on` come with an approval.
    """

    state: ProofingState
    attempt: int = 1
    reasons: tuple[str, ...] = ()
    advice: str = ""
    risk_labels: tuple[str, ...] = ()
    same_face: bool = False
    document: Document | None = field(default=None, repr=False)
    born_on: date | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClientAccess:
    """What the person's client opens the provider's own pages or SDK with; `token` is a secret of that person."""

    token: str = field(repr=False)
    expires_at: datetime


class IdentityProofing(Protocol):
    """One provider of identity proofing.

    Every call raises DomainError `proofing_unavailable` (retryable: unreachable, slow, garbled, over its limits) or
    `proofing_refused` (final: our request or our credentials are wrong).
    """

    @property
    def assurance(self) -> Assurance:
        """How well an approval of this provider makes a person known."""
        ...

    async def open_case(self, case_id: str) -> str:
        """Return the provider's reference of a case, opened under our id; the same id gives the same reference."""
        ...

    async def client_access(self, case_id: str) -> ClientAccess:
        """Return a fresh access for the person's client, good for this case alone."""
        ...

    async def read_case(self, reference: str) -> ProofingFinding:
        """Return what the provider says of a case now: the only source that decides anything."""
        ...

    async def allow_retry(self, reference: str) -> None:
        """Make a case that was answered with RETRY take new evidence; safe to repeat, and no-op where it does."""
        ...

    async def erase(self, reference: str) -> bool:
        """Ask for the erasure of a case; True once the provider has confirmed it. Safe to repeat."""
        ...


@dataclass(frozen=True, slots=True)
class ProofingPolicy:
    """Which provider proofs whom: versioned data, since biometric proofing is not legal everywhere.

    `by_region` names a provider for a region; every other one gets `default`.
    """

    version: int
    default: str
    by_region: Mapping[str, str] = field(default_factory=dict)

    def provider(self, region: str) -> str:
        """Return the name of the provider for a region."""
        return self.by_region.get(region, self.default)


def age_on(born_on: date, today: date) -> int:
    """Return completed years; who was born on 29 February comes of age on 1 March of other years."""
    return today.year - born_on.year - ((today.month, today.day) < (born_on.month, born_on.day))
