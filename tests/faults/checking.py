"""Compares what voters were told with what the ledgers keep and what the results show, and names every difference.

Nothing here asks the services how they are doing: it reads the client's notes, the rows of the ledgers with the
development key of the survey, and the public results.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from comitia.demo.glasgow import Totals
from comitia.demo.survey import PublishedElection
from domain.ballots import unpack
from domain.tally import BALLOTS, Counts
from integrations.keys.file_kms import FileKms
from integrations.keys.sealing import SurveySeal
from integrations.postgres.tally import LedgerSnapshots
from tests.faults.notes import Notes


@dataclass(frozen=True, slots=True)
class Kept:
    """What the ledgers of all cells have of one survey; `evidence` has the rows of each nullifier."""

    evidence: Mapping[str, Sequence[str]]
    ballots: int
    opened: Totals  # of the sealed ballots, opened one by one
    unreadable: int
    counted: Totals  # what the batches say

    @property
    def participations(self) -> int:
        """Rows, whoever they are of."""
        return sum(len(rows) for rows in self.evidence.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a fault came to. Everything from `missing` on is 0, or something is broken.

    `missing`: acknowledged voters whom no ledger has. `double`: rows, ballots or receipts more than one per person.
    `wrong`: differences between the choices that are kept and those that their voters made, and participations that
    nobody asked for. `difference`: between ballots, counts and results. `unserved`: voters without a receipt.
    """

    acknowledged: int
    recorded: int
    missing: int
    double: int
    wrong: int
    difference: int
    unserved: int

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, nothing counted twice, and everybody was served in the end."""
        return not any((self.missing, self.double, self.wrong, self.difference, self.unserved))


def judge(notes: Notes, kept: Kept, shown: Totals, survey: PublishedElection) -> Verdict:
    """Compare the three."""
    asked = {one.nullifier: one for one in notes.asked.values()}
    acknowledged = notes.acknowledged
    missing = sum(notes.asked[voter].nullifier not in kept.evidence for voter in acknowledged)
    rows_too_many = sum(len(rows) - 1 for rows in kept.evidence.values())
    ballots_too_many = max(0, kept.ballots - kept.participations)
    expected: Totals = Counter()
    unasked = 0
    for nullifier, rows in kept.evidence.items():
        one = asked.get(nullifier)
        if one is None or set(rows) != {one.evidence}:
            unasked += 1
            continue
        expected[one.region, 0, BALLOTS] += 1
        for question, parties in one.ballot:
            for party in parties:
                expected[one.region, survey.questions.index(question) + 1, party] += 1
    return Verdict(
        acknowledged=len(acknowledged),
        recorded=kept.participations,
        missing=missing,
        double=rows_too_many + ballots_too_many + len(notes.twice),
        wrong=unasked + kept.unreadable + len(notes.two_receipts) + _apart(expected, kept.opened),
        difference=_apart(kept.opened, kept.counted) + _apart(kept.opened, shown),
        unserved=len(notes.asked.keys() - notes.confirmed),
    )


def _apart(one: Totals, other: Totals) -> int:
    return sum(abs(one[key] - other[key]) for key in {*one, *other})


async def read_kept(owners: Mapping[str, asyncpg.Pool], keys: FileKms, survey: PublishedElection) -> Kept:
    """Read the ledgers of these cells, opening every ballot."""
    evidence: dict[str, list[str]] = {}
    opened: Totals = Counter()
    counted: Totals = Counter()
    ballots = unreadable = 0
    for pool in owners.values():
        for row in await pool.fetch(
            "SELECT nullifier, evidence FROM voting.participation WHERE survey_id = $1", survey.survey_id
        ):
            evidence.setdefault(row["nullifier"].hex(), []).append(row["evidence"].hex())
        wrapped = await pool.fetchval(
            "SELECT wrapped_ballot_key FROM voting.survey WHERE survey_id = $1", survey.survey_id
        )
        seal = SurveySeal(survey.survey_id, await keys.unwrap(wrapped, survey.survey_id))
        for row in await pool.fetch("SELECT sealed FROM voting.ballot WHERE survey_id = $1", survey.survey_id):
            ballots += 1
            try:
                opened.update(_votes(survey, seal.open(row["sealed"])))
            except ValueError:
                unreadable += 1
        async with LedgerSnapshots(pool).open() as snapshot:
            counted.update(_totals(survey, await snapshot.counts(survey.survey_id)))
    return Kept(evidence, ballots, opened, unreadable, counted)


def _votes(survey: PublishedElection, packed: bytes) -> Totals:
    """Return what one ballot adds."""
    ballot = unpack(packed)
    votes: Totals = Counter({(ballot.region, 0, BALLOTS): 1})
    for question, options, _ in ballot.answers:
        number = survey.questions.index(question)
        party_of = {option: party for party, option in survey.options[number].items()}
        for option in options:
            votes[ballot.region, number + 1, party_of[option]] += 1
    return votes


def _totals(survey: PublishedElection, counts: Counts) -> Totals:
    places = {
        option: (number, party)
        for number, options in enumerate(survey.options, start=1)
        for party, option in options.items()
    }
    totals: Totals = Counter()
    for (region, option), votes in counts.items():
        number, party = (0, BALLOTS) if option == BALLOTS else places[option]
        totals[region, number, party] += votes
    return totals
