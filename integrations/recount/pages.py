"""What a process of the pool does with a page: it opens ballots with the survey's key, and forgets the key again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.ballots import BallotRules
from domain.certificates import ballot_line
from domain.contracts.surveys import Survey
from domain.framing import framed
from domain.merkle import leaf_hash
from domain.recording import BallotBox
from domain.recount import (
    BallotRow,
    BatchKey,
    PageCount,
    add_ballot,
    count_batches,
    count_page,
    open_ballot,
)
from domain.tally import Counts
from integrations.keys.sealing import SurveySeal
from integrations.postgres.recount import ParticipationRow


@dataclass(frozen=True, slots=True)
class BallotKey:
    """A survey and the key that opens its ballots; it is in nobody's memory but the pool's."""

    survey: Survey
    secret: bytes = field(repr=False)

    def box(self) -> BallotBox:
        """Return what opens and checks a ballot."""
        return BallotBox(BallotRules(self.survey), SurveySeal(self.survey.id, self.secret))

    @property
    def regions(self) -> frozenset[str]:
        """The regions that the survey is for; empty means every one."""
        return frozenset(self.survey.regions)


@dataclass(frozen=True, slots=True)
class PublishedPage:
    """Lines to publish, each behind the place (32 bytes) that the order gives it, and what they add up to."""

    lines: list[tuple[bytes, bytes]]
    counts: Counts


def count_ballots(key: BallotKey, rows: Sequence[BallotRow]) -> PageCount:
    """Count a page of ballots."""
    return count_page(rows, key.box(), key.survey.id, key.regions)


def count_by_batch(key: BallotKey, rows: Sequence[BallotRow]) -> dict[BatchKey, Counts]:
    """Count a page of ballots batch by batch."""
    return count_batches(rows, key.box(), key.regions)


def open_for_publication(key: BallotKey, rows: Sequence[BallotRow]) -> PublishedPage:
    """Open a page of ballots for everyone; what cannot be read was a difference before, and is left out."""
    box, seal, counts = key.box(), SurveySeal(key.survey.id, key.secret), Counts()
    lines = []
    for row in rows:
        try:
            ballot = open_ballot(row, box, key.regions)
        except ValueError:
            continue
        add_ballot(counts, ballot)
        lines.append((seal.publication_place(row.ballot_id), ballot_line(ballot)))
    return PublishedPage(lines, counts)


def participation_leaves(survey_id: str, rows: Sequence[ParticipationRow]) -> bytes:
    """Return the leaf hashes (32 bytes each) of a page of participations, as `participation_leaf` has them."""
    name = survey_id.encode()
    return b"".join(leaf_hash(framed(name, row.nullifier, row.evidence, row.region.encode())) for row in rows)
