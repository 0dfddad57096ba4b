"""The rules of recording a batch: which votes count, which repeat, what is added to the totals. No I/O."""

import hmac
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from domain.ballots import BallotRules, OpenedBallot, answers_of, unpack
from domain.contracts.voting import BatchSummary, Outcome, RegionCounts, SealedVote, SubmitVotesInput
from domain.errors import DomainError
from domain.framing import framed

VoteKey = tuple[str, bytes]  # survey id, nullifier


class BallotSeal(Protocol):
    """The ballot key of one survey."""

    def seal(self, packed: bytes) -> bytes:
        """Return the packed ballot sealed anew."""
        ...

    def open(self, sealed: bytes) -> bytes:
        """Return the packed ballot. Raises ValueError where the seal is broken."""
        ...


@dataclass(frozen=True, slots=True)
class BallotBox:
    """What it takes to read the ballots of one survey."""

    rules: BallotRules
    seal: BallotSeal


@dataclass(frozen=True, slots=True)
class Window:
    """When a survey takes votes: start <= accepted < finish. `sealed` means that it was drained for good."""

    start_at: datetime | None
    finish_at: datetime | None
    sealed: bool = False

    def refusal(self, accepted_at: datetime) -> Outcome | None:
        """Return why a vote accepted at this instant does not count, or None.

        A vote inside the window of a sealed survey was missed by the drain: a fault, refused and looked into.
        """
        if self.start_at is None or accepted_at < self.start_at:
            return Outcome.SURVEY_NOT_OPEN
        if self.finish_at is not None and accepted_at >= self.finish_at:
            return Outcome.SURVEY_CLOSED
        return Outcome.REFUSED if self.sealed else None


def input_digest(batch: SubmitVotesInput) -> bytes:
    """Return the 32-byte digest of a batch's votes: SHA-256 over length-prefixed fields in order."""
    digest = sha256(b"comitia/batch/1")
    for vote in batch.votes:
        digest.update(
            framed(
                vote.survey_id.encode(),
                vote.nullifier,
                vote.evidence,
                vote.region.encode(),
                vote.sealed_answers,
                vote.key_mac,
            )
        )
    return digest.digest()


def open_vote(vote: SealedVote, box: BallotBox | None) -> tuple[Outcome, bytes, OpenedBallot | None]:
    """Return RECORDED with the packed and opened ballot, or the outcome that refuses the vote whenever it came."""
    if box is None:
        return Outcome.SURVEY_NOT_FOUND, b"", None
    try:
        packed = box.seal.open(vote.sealed_answers)
        ballot = unpack(packed)
    except ValueError:
        return Outcome.UNREADABLE, b"", None
    if ballot.region != vote.region or len(packed) != box.rules.packed_bytes:
        return Outcome.UNREADABLE, b"", None
    if not box.rules.is_for(ballot.region):  # no honest admission: once recorded, nothing could be certified any more
        return Outcome.INVALID_ANSWERS, b"", None
    try:
        box.rules.check(answers_of(ballot))
    except DomainError:
        return Outcome.INVALID_ANSWERS, b"", None
    return Outcome.RECORDED, packed, ballot


def same_key(key_mac: bytes, known_mac: bytes | None) -> bool:
    """Tell whether a vote came with the idempotency key of the recorded one; none came is never the same."""
    return bool(key_mac) and known_mac is not None and hmac.compare_digest(key_mac, known_mac)


class BatchRecording:
    """One batch on its way into the ledger: votes are opened first, then met with windows and earlier votes."""

    def __init__(
        self,
        batch: SubmitVotesInput,
        boxes: Mapping[str, BallotBox],
        *,
        lost: Collection[str] = (),
        refused: Iterable[int] = (),
    ) -> None:
        """Open every vote.

        `lost` are surveys that the cell has and whose ballots nothing opens any more, `refused` the indices that the
        database would not take.
        """
        self.batch = batch
        self._boxes = boxes
        opened = [open_vote(vote, boxes.get(vote.survey_id)) for vote in batch.votes]
        self._outcomes = [outcome for outcome, _, _ in opened]
        self._packed = [packed for _, packed, _ in opened]
        self._ballots = [ballot for _, _, ballot in opened]
        if lost:
            for index, vote in enumerate(batch.votes):
                if vote.survey_id in lost:
                    self._outcomes[index] = Outcome.UNREADABLE
        for index in refused:
            self._outcomes[index] = Outcome.REFUSED
        self._first: dict[VoteKey, int] = {}
        self._new: list[int] = []
        self.late: list[SealedVote] = []  # after the end, with an idempotency key: each may repeat one that was in time

    def close_outside(self, windows: Mapping[str, Window], accepted_at: datetime) -> list[int]:
        """Refuse votes outside their survey's window; return the indices that a sealed survey refused (faults)."""
        refusals = {survey_id: window.refusal(accepted_at) for survey_id, window in windows.items()}
        faults = []
        for index, vote in enumerate(self.batch.votes):
            if self._outcomes[index] is not Outcome.RECORDED:
                continue
            refusal = refusals.get(vote.survey_id, Outcome.SURVEY_NOT_FOUND)
            if refusal is not None:
                self._outcomes[index] = refusal
                if refusal is Outcome.REFUSED:
                    faults.append(index)
                elif refusal is Outcome.SURVEY_CLOSED and vote.key_mac:
                    self.late.append(vote)
        return faults

    def claims(self) -> list[SealedVote]:
        """Return the first vote of each (survey, nullifier), sorted by both: the participations to insert.

        One order for everyone: two batches that share voters cannot deadlock.
        """
        for index, vote in enumerate(self.batch.votes):
            if self._outcomes[index] is Outcome.RECORDED:
                self._first.setdefault((vote.survey_id, vote.nullifier), index)
        return [self.batch.votes[self._first[key]] for key in sorted(self._first)]

    def settle(self, inserted: Iterable[VoteKey], earlier: Mapping[VoteKey, bytes]) -> None:
        """Turn claims into outcomes.

        `inserted` are the claims that the unique constraint let in; `earlier` holds the key MAC of the others' first
        votes, and of the first votes of whoever is `late`. Only the first index of each key can be new; what comes
        later repeats it. A late vote repeats or stays closed: nothing is new after the end.
        """
        new = set(inserted)
        for index, vote in enumerate(self.batch.votes):
            outcome = self._outcomes[index]
            if outcome is not Outcome.RECORDED and outcome is not Outcome.SURVEY_CLOSED:
                continue
            key = (vote.survey_id, vote.nullifier)
            if outcome is Outcome.SURVEY_CLOSED:
                if same_key(vote.key_mac, earlier.get(key)):
                    self._outcomes[index] = Outcome.REPLAYED
                continue
            first = self._first[key]
            if key in new and index == first:
                self._new.append(index)
                continue
            known_mac = self.batch.votes[first].key_mac if key in new else earlier[key]
            self._outcomes[index] = Outcome.REPLAYED if same_key(vote.key_mac, known_mac) else Outcome.ALREADY_VOTED

    @property
    def outcomes(self) -> bytes:
        """One byte per vote, by index."""
        return bytes(self._outcomes)

    def new_votes(self) -> list[SealedVote]:
        """Return the votes that are new, sorted by (survey, nullifier)."""
        votes = [self.batch.votes[index] for index in self._new]
        return sorted(votes, key=lambda vote: (vote.survey_id, vote.nullifier))

    def resealed(self) -> list[tuple[str, bytes]]:
        """Return (survey id, ballot sealed anew) of the new votes: nothing in the history opens to these bytes."""
        votes = self.batch.votes
        return [
            (votes[index].survey_id, self._boxes[votes[index].survey_id].seal.seal(self._packed[index]))
            for index in self._new
        ]

    def summaries(self) -> tuple[BatchSummary, ...]:
        """Return what the new votes add, one summary per survey, regions in order."""
        regions: dict[str, dict[str, tuple[list[int], dict[str, int]]]] = defaultdict(dict)
        for index in self._new:
            ballot = self._ballots[index]
            assert ballot is not None
            survey = regions[self.batch.votes[index].survey_id]
            ballots, options = survey.setdefault(ballot.region, ([0], {}))
            ballots[0] += 1
            for _, chosen, _ in ballot.answers:
                for option in chosen:
                    options[option] = options.get(option, 0) + 1
        return tuple(
            BatchSummary(
                cell=self.batch.cell,
                gateway_id=self.batch.gateway_id,
                number=self.batch.number,
                survey_id=survey_id,
                regions=tuple(
                    RegionCounts(region=region, ballots=ballots[0], options=options)
                    for region, (ballots, options) in sorted(survey.items())
                ),
            )
            for survey_id, survey in sorted(regions.items())
        )


def participation_leaf(vote: SealedVote) -> bytes:
    """Return the Merkle leaf of a participation: what reconciliation recomputes from its row."""
    return framed(vote.survey_id.encode(), vote.nullifier, vote.evidence, vote.region.encode())


def ballot_leaf(survey_id: str, ballot_id: bytes, sealed: bytes) -> bytes:
    """Return the Merkle leaf of a sealed ballot: what reconciliation recomputes from its row."""
    return framed(survey_id.encode(), ballot_id, sealed)
