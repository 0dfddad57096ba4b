"""Compares what voters were told with what the ledgers keep and what the results show, and names every difference.

Nothing here asks the services how they are doing, nor uses their code to read: it takes the client's notes, the rows of
the ledgers with the development key of the survey, and the public results.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from comitia.demo.glasgow import Totals
from comitia.demo.survey import PublishedElection
from domain.tally import BALLOTS
from integrations.keys.file_kms import FileKms
from tests.faults.notes import Asked, Notes
from tests.faults.papers import Opener, Paper, Papers, Sums, apart, sums_of


@dataclass(frozen=True, slots=True)
class Kept:
    """What the ledgers of all cells have of one survey; `evidence` has the rows of each nullifier."""

    evidence: Mapping[str, Sequence[str]]
    opened: Papers  # the sealed ballots, opened one by one
    unreadable: int
    counted: Sums  # what the batches say

    @property
    def participations(self) -> int:
        """Rows, whoever they are of."""
        return sum(len(rows) for rows in self.evidence.values())

    @property
    def ballots(self) -> int:
        """Rows, also of what cannot be read."""
        return self.opened.total() + self.unreadable


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a fault came to. Everything from `missing` on is 0, or something is broken.

    `missing`: acknowledged voters whom no ledger has. `double`: rows, ballots or receipts more than one per person.
    `wrong`: differences between the ballots that are kept and those that their voters cast, and participations that
    nobody asked for or that were refused each time. `difference`: between ballots, counts and results. `unserved`:
    voters without a receipt.
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


def judge(notes: Notes, kept: Kept, shown: Totals, survey: PublishedElection, *, closing: bool = False) -> Verdict:
    """Compare the three.

    Where the survey was `closing` while people voted, some were told that it is closed: at once, or after their vote
    was accepted without a receipt. They are served. Those who heard nothing else are in no ledger; an attempt that got
    no answer may have been in time.
    """
    turned_away = notes.turned_away if closing else set()
    missing = sum(notes.asked[voter].nullifier not in kept.evidence for voter in notes.acknowledged - turned_away)
    rows_too_many = sum(len(rows) - 1 for rows in kept.evidence.values())
    ballots_too_many = max(0, kept.ballots - kept.participations)
    expected, unasked = expected_papers(notes, kept, survey)
    refused = sum(notes.asked[voter].nullifier in kept.evidence for voter in notes.only_turned_away)
    opened = sums_of(kept.opened)
    return Verdict(
        acknowledged=len(notes.acknowledged),
        recorded=kept.participations,
        missing=missing,
        double=rows_too_many + ballots_too_many + len(notes.twice),
        wrong=unasked + refused + kept.unreadable + len(notes.two_receipts) + apart(expected, kept.opened),
        difference=apart(opened, kept.counted) + apart(opened, _shown(shown, survey)),
        unserved=len(notes.asked.keys() - notes.confirmed - turned_away),
    )


def expected_papers(notes: Notes, kept: Kept, survey: PublishedElection) -> tuple[Papers, int]:
    """Return the papers of those who are in the ledgers, as they cast them, and how many rows nobody asked for."""
    asked = {one.nullifier: one for one in notes.asked.values()}
    papers: Papers = Counter()
    unasked = 0
    for nullifier, rows in kept.evidence.items():
        one = asked.get(nullifier)
        if one is None or set(rows) != {one.evidence}:
            unasked += 1
        else:
            papers[_cast(one, survey)] += 1
    return papers, unasked


async def read_kept(owners: Mapping[str, asyncpg.Pool], keys: FileKms, survey: PublishedElection) -> Kept:
    """Read the ledgers of these cells, opening every ballot."""
    evidence: dict[str, list[str]] = {}
    opened: Papers = Counter()
    counted: Sums = Counter()
    unreadable = 0
    for pool in owners.values():
        for row in await pool.fetch(
            "SELECT nullifier, evidence FROM voting.participation WHERE survey_id = $1", survey.survey_id
        ):
            evidence.setdefault(row["nullifier"].hex(), []).append(row["evidence"].hex())
        wrapped = await pool.fetchval(
            "SELECT wrapped_ballot_key FROM voting.survey WHERE survey_id = $1", survey.survey_id
        )
        opener = Opener(survey.survey_id, await keys.unwrap(wrapped, survey.survey_id))
        for row in await pool.fetch("SELECT sealed FROM voting.ballot WHERE survey_id = $1", survey.survey_id):
            try:
                opened[opener.open(row["sealed"])] += 1
            except ValueError:
                unreadable += 1
        for row in await pool.fetch(
            "SELECT region, ballots, options FROM voting.batch_count WHERE survey_id = $1", survey.survey_id
        ):
            counted[row["region"], ""] += row["ballots"]
            counted.update({(row["region"], option): votes for option, votes in json.loads(row["options"]).items()})
    return Kept(evidence, opened, unreadable, counted)


def _cast(one: Asked, survey: PublishedElection) -> Paper:
    """Return the paper that a voter asked to cast, with the options' ids."""
    chosen = {
        (question, survey.options[survey.questions.index(question)][party])
        for question, parties in one.ballot
        for party in parties
    }
    return one.region, frozenset(chosen)


def _shown(totals: Totals, survey: PublishedElection) -> Sums:
    """Return public results by option id, what nobody chose left out."""
    sums: Sums = Counter()
    for (region, number, party), votes in totals.items():
        if votes:
            sums[region, "" if party == BALLOTS and not number else survey.options[number - 1][party]] += votes
    return sums
