"""Counting a survey again from its sealed ballots: what a page of them says, and where the ledger says otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from domain.ballots import OpenedBallot, answers_of, unpack
from domain.contracts.certification import CertificationDifference
from domain.contracts.voting import RegionCounts
from domain.errors import DomainError
from domain.framing import framed
from domain.merkle import leaf_hash
from domain.recording import BallotBox, ballot_leaf
from domain.tally import BALLOTS, Counts

DIFFERENCES_MAX = 100  # named of one cell; nobody reads more before acting

BatchKey = tuple[bytes, int]  # gateway id, number


class BallotRow(NamedTuple):
    """A sealed ballot of the ledger; a tuple, since a million of them travel between processes."""

    ballot_id: bytes
    gateway_id: bytes
    number: int
    sealed: bytes

    @property
    def name(self) -> str:
        """How a difference names the row."""
        return f"ballot {UUID(bytes=self.ballot_id)} of batch {self.gateway_id.hex()}-{self.number}"


@dataclass(frozen=True, slots=True)
class PageCount:
    """What a page of ballots adds: counts, the hash of each leaf (32 bytes each, one after the other), and faults."""

    counts: Counts
    leaves: bytes
    unreadable: tuple[tuple[str, str], ...] = ()  # the row's name, and the reason


def open_ballot(row: BallotRow, box: BallotBox, regions: frozenset[str]) -> OpenedBallot:
    """Return a ballot that is sealed under the survey's key and keeps to its rules.

    Raises:
        ValueError: why it does not count; no choice is in the text.
    """
    packed = box.seal.open(row.sealed)
    ballot = unpack(packed)
    if len(packed) != box.rules.packed_bytes:
        raise ValueError("not of the survey's length")
    if regions and ballot.region not in regions:
        raise ValueError("of a region that the survey is not for")
    try:
        box.rules.check(answers_of(ballot))
    except DomainError as error:
        raise ValueError(f"breaks a rule: {error.code}") from error
    return ballot


def add_ballot(counts: Counts, ballot: OpenedBallot) -> None:
    """Add a ballot and its choices."""
    region = ballot.region
    counts[region, BALLOTS] = counts.get((region, BALLOTS), 0) + 1
    for _, chosen, _ in ballot.answers:
        for option in chosen:
            counts[region, option] = counts.get((region, option), 0) + 1


def count_page(rows: Sequence[BallotRow], box: BallotBox, survey_id: str, regions: frozenset[str]) -> PageCount:
    """Open, check and add up a page of ballots; what cannot be read is named and not counted."""
    counts: Counts = {}
    unreadable: list[tuple[str, str]] = []
    leaves: list[bytes] = []
    for row in rows:
        leaves.append(leaf_hash(ballot_leaf(survey_id, row.ballot_id, row.sealed)))
        try:
            add_ballot(counts, open_ballot(row, box, regions))
        except ValueError as error:
            unreadable.append((row.name, str(error)))
    return PageCount(counts, b"".join(leaves), tuple(unreadable))


def count_batches(
    rows: Sequence[BallotRow], box: BallotBox, regions: frozenset[str]
) -> dict[BatchKey, dict[tuple[str, str], int]]:
    """Return what a page of ballots adds to each batch: the slow form, for finding which batch differs."""
    batches: dict[BatchKey, Counts] = {}
    for row in rows:
        counts = batches.setdefault((row.gateway_id, row.number), {})
        try:
            add_ballot(counts, open_ballot(row, box, regions))
        except ValueError:
            continue  # named when the page was counted
    return batches


def add_counts(total: Counts, more: Mapping[tuple[str, str], int]) -> None:
    """Add counts to others."""
    for key, votes in more.items():
        total[key] = total.get(key, 0) + votes


def differing_batches(
    cell: str, recounted: Mapping[BatchKey, Counts], recorded: Mapping[BatchKey, Counts]
) -> list[CertificationDifference]:
    """Name the batches whose ballots are not what the ledger counted for them, at most `DIFFERENCES_MAX`."""
    differences = []
    for key in sorted(recounted.keys() | recorded.keys()):
        ours, theirs = recounted.get(key, {}), recorded.get(key, {})
        if ours == theirs:
            continue
        ballots = tuple(sum(n for (_, o), n in counts.items() if o == BALLOTS) for counts in (ours, theirs))
        detail = f"{ballots[0]} ballots that count, {ballots[1]} counted by the batch"
        if ballots[0] == ballots[1]:
            detail = "the ballots do not say what the batch counted"
        differences.append(
            CertificationDifference(
                cell=cell, kind="batch_counts_differ", row=f"batch {key[0].hex()}-{key[1]}", detail=detail
            )
        )
        if len(differences) == DIFFERENCES_MAX:
            break
    return differences


def regions_of(counts: Counts) -> tuple[RegionCounts, ...]:
    """Return counts as contracts keep them, regions and options in order."""
    options: dict[str, dict[str, int]] = {}
    for (region, option), votes in sorted(counts.items()):
        options.setdefault(region, {})[option] = votes
    return tuple(
        RegionCounts(region=region, ballots=found.pop(BALLOTS, 0), options=found) for region, found in options.items()
    )


def counts_of(regions: Iterable[RegionCounts]) -> Counts:
    """Return the counts of several lists of regions, added up."""
    counts: Counts = {}
    for region in regions:
        add_counts(counts, {(region.region, BALLOTS): region.ballots})
        add_counts(counts, {(region.region, option): votes for option, votes in region.options.items()})
    return {key: votes for key, votes in counts.items() if votes}


def batch_leaf(
    key: BatchKey, input_digest: bytes, outcomes: bytes, participations_root: bytes, ballots_root: bytes
) -> bytes:
    """Return the Merkle leaf of a batch's row."""
    return framed(key[0], key[1].to_bytes(8, "big"), input_digest, outcomes, participations_root, ballots_root)
