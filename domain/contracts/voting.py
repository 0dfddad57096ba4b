"""What the vote path writes into histories and topics."""

from datetime import datetime
from enum import IntEnum

from domain.contracts.base import Contract
from domain.errors import ErrorCode


class Outcome(IntEnum):
    """What became of one vote of a batch; one byte of `batch.outcomes` each. Numbers are never reused."""

    RECORDED = 0
    REPLAYED = 1  # took part before, with the same idempotency key
    ALREADY_VOTED = 2
    SURVEY_NOT_FOUND = 3
    SURVEY_NOT_OPEN = 4
    SURVEY_CLOSED = 5
    INVALID_ANSWERS = 6  # or of a region that the survey is not for
    UNREADABLE = 7  # nothing opens the seal any more, or the region inside is not the token's
    REFUSED = 8  # the database refused this row


OUTCOME_ERRORS: dict[Outcome, ErrorCode] = {
    Outcome.ALREADY_VOTED: ErrorCode.ALREADY_VOTED,
    Outcome.SURVEY_NOT_FOUND: ErrorCode.SURVEY_NOT_FOUND,
    Outcome.SURVEY_NOT_OPEN: ErrorCode.SURVEY_NOT_OPEN,
    Outcome.SURVEY_CLOSED: ErrorCode.SURVEY_CLOSED,
    Outcome.INVALID_ANSWERS: ErrorCode.VOTE_REFUSED,
    Outcome.UNREADABLE: ErrorCode.VOTE_REFUSED,
    Outcome.REFUSED: ErrorCode.VOTE_REFUSED,
}


class SealedVote(Contract):
    """One vote as it waits: who took part by nullifier only, what was chosen under the ballot key only."""

    survey_id: str
    nullifier: bytes  # 32 bytes, one per person and survey; says nothing about the person
    evidence: bytes  # 64 bytes, the issuer's Ed25519 signature over survey, nullifier, cell and region
    region: str
    sealed_answers: bytes  # AES-256-GCM under the survey's ballot key, padded, at most 4 KiB
    key_mac: bytes = b""  # 32 bytes, HMAC of the Idempotency-Key; empty when none came


class SubmitVotesInput(Contract):
    """A batch of waiting votes, of any surveys; at most VOTE_BATCH_MAX and 1 MiB encoded."""

    cell: str
    gateway_id: bytes  # 16 bytes
    number: int
    votes: tuple[SealedVote, ...]


class RecordVotesInput(Contract):
    """A batch and the instant that Temporal made it durable: what decides whether a vote was in time."""

    batch: SubmitVotesInput
    accepted_at: datetime


class RegionCounts(Contract):
    """Ballots of one region and, per option id, how many of them chose it."""

    region: str
    ballots: int
    options: dict[str, int]


class BatchSummary(Contract):
    """What one batch adds to one survey; the tally folds it once per (survey, gateway, number)."""

    cell: str
    gateway_id: bytes  # 16 bytes
    number: int  # from 1, without holes per gateway
    survey_id: str
    regions: tuple[RegionCounts, ...]


class RecordedVotes(Contract):
    """The outcome of each index of a batch, and what to tell the tally."""

    outcomes: bytes  # one `Outcome` per vote, by index
    summaries: tuple[BatchSummary, ...] = ()


class AnnounceVotesInput(Contract):
    """The summaries of one recorded batch."""

    cell: str
    summaries: tuple[BatchSummary, ...]


class SubmitVotesResult(Contract):
    """The outcome of each index of a batch."""

    outcomes: bytes


class AttemptCount(Contract):
    """How often one device and network attempted to vote in one survey, with one outcome, within a second."""

    survey_id: str
    region: str
    outcome: str  # `confirmed`, `accepted` or an error code
    device: str  # a pseudonym that holds for this survey only; empty where the token has none
    network: str  # a pseudonym of the client's network
    count: int


class VotesAttempted(Contract):
    """What one API process saw of attempts within a second; lossy by design, never a nullifier or a choice."""

    process: str
    at: datetime
    attempts: tuple[AttemptCount, ...]
    left_out: int = 0  # attempts beyond what one message holds
