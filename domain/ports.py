"""What the inside needs from the outside; `integrations/` implements, composition modules join."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from domain.contracts.surveys import InstallSurveyInput, Survey, SurveyWindow
from domain.contracts.voting import BatchSummary, RecordedVotes, SubmitVotesInput
from domain.tally import MergedTotals
from domain.tokens import RiskBand


class VoteLedger(Protocol):
    """The append-only record of one cell."""

    async def record(self, batch: SubmitVotesInput, accepted_at: datetime) -> RecordedVotes:
        """Record a batch once, in one transaction; the same batch again returns the first outcomes."""
        ...


class SummaryPublisher(Protocol):
    """Tells the tally, at least once."""

    async def publish(self, summaries: tuple[BatchSummary, ...]) -> None:
        """Return when the broker has every summary durably (`acks=all`)."""
        ...


class CellSurveys(Protocol):
    """The copies of surveys in one cell."""

    async def install(self, request: InstallSurveyInput) -> None:
        """Put a survey and its keys into the cell, not open yet; safe to repeat."""
        ...

    async def set_window(self, window: SurveyWindow, now: Callable[[], datetime]) -> None:
        """Set when the survey opens and closes in the cell, by the clock that votes are accepted by; safe to repeat."""
        ...

    async def get(self, survey_id: str) -> Survey | None:
        """Return the cell's copy, or None."""
        ...


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """A key of a purpose: `key_id` names it in every ciphertext and keyed hash, `secret` is 32 bytes.

    For signing purposes the secret is the Ed25519 seed.
    """

    key_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh 32-byte data key and the same wrapped, with the id of the key-encryption key inside."""

    plaintext: bytes = field(repr=False)
    wrapped: bytes


class KeyManagement(Protocol):
    """A key management service. Purposes are paths such as `in-flight/eu` or `voting-token`.

    A process may use only the purposes that its composition names; anything else raises `key_unavailable`.
    All calls raise DomainError `key_unavailable` (retryable) or `key_destroyed`.
    """

    async def current(self, purpose: str) -> KeyMaterial:
        """Return the newest key of a purpose, made on first use."""
        ...

    async def by_id(self, key_id: str) -> KeyMaterial:
        """Return a key by its id; `key_destroyed` once it was destroyed."""
        ...

    async def public_keys(self, purpose: str) -> dict[str, bytes]:
        """Return the 32-byte Ed25519 public keys of a signing purpose by key id, newest last."""
        ...

    async def key_ids(self, purpose: str) -> tuple[str, ...]:
        """Return the ids of a purpose's keys that still exist, oldest first."""
        ...

    async def rotate(self, purpose: str) -> KeyMaterial:
        """Make a new current key; earlier ones stay readable until destroyed."""
        ...

    async def destroy(self, key_id: str) -> None:
        """Destroy a key for good; safe to repeat."""
        ...

    async def generate_data_key(self, purpose: str, context: str) -> DataKey:
        """Return a fresh data key wrapped under the current key of `purpose` (`kek/ballot`, `kek/eligibility`).

        `context` (the survey's id) is authenticated: unwrapping asks for the same.
        """
        ...

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Return the plaintext of a wrapped data key."""
        ...

    async def rewrap(self, wrapped: bytes, context: str) -> bytes:
        """Return a data key wrapped under the newest version of the key that wrapped it; nobody sees either."""
        ...


class RiskDecision(StrEnum):
    """What risk rules say; the wire words of dashboards and alerts."""

    ALLOW = "ALLOW"
    CHALLENGE = "CHALLENGE"
    DENY = "DENY"


@dataclass(frozen=True, slots=True)
class BroughtEvent:
    """What the device event that an admission brought came to, with why in codes for staff.

    `absent`: whoever could tell did not answer. `invalid`: it proves nothing of this request. `refused`: a device that
    says this of itself may not be used for voting. Else `score_permille` is how much it raises the risk.
    """

    score_permille: int = 0
    reasons: tuple[str, ...] = ()
    absent: bool = False
    invalid: bool = False
    refused: bool = False

    @property
    def tells(self) -> bool:
        """Tell whether anything is known of the device by it."""
        return not (self.absent or self.invalid)


@dataclass(frozen=True, slots=True)
class AdmissionAttempt:
    """What the risk rules see of an admission: pseudonyms only (16 bytes each), and what its login has found.

    `device_flags` are what the newest event of the session's device said against it, and `device_unseen_for` is how
    long ago that was: None where the token names no device that a login has read, `timedelta.max` where this voter was
    never seen on it. `event` is what the request itself brought.
    """

    survey_id: str
    voter_pseudonym: bytes
    device_pseudonym: bytes | None
    network_pseudonym: bytes
    risk_band: RiskBand
    device_flags: frozenset[str] = frozenset()
    device_unseen_for: timedelta | None = None
    event: BroughtEvent | None = None


@dataclass(frozen=True, slots=True)
class RiskVerdict:
    """A decision with its score (0 to 1000), the version of the rules that made it, and why, in codes for staff."""

    decision: RiskDecision
    score_permille: int
    policy_version: int
    reasons: tuple[str, ...] = ()


class VoteRisk(Protocol):
    """Judges admissions, bounded in time; its absence means CHALLENGE, never ALLOW."""

    async def assess(self, attempts: Sequence[AdmissionAttempt]) -> Sequence[RiskVerdict]:
        """Return one verdict for each attempt that came at once, in order, within 100 ms.

        Whoever asks waits a second at most and then goes on as for CHALLENGE.
        """
        ...


class ResultsReader(Protocol):
    """Reads totals as staff may always see them."""

    async def totals(self, survey_id: str) -> MergedTotals:
        """Return the merged totals of every cell that answers.

        Raises:
            DomainError: `tally_unavailable` where no cell answers.
        """
        ...
