"""The Glasgow election of 2022 as a survey: its wards, its parties, its real ballots, and what they add up to."""

import csv
import json
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from domain.tally import BALLOTS

FOLDER = Path(__file__).parents[2] / "examples" / "glasgow-2022"
QUESTIONS = ("Which party did you place first?", "Which other parties did you rank?")

Totals = Counter[tuple[str, int, str]]  # (region, question from 1, party) to votes; (region, 0, BALLOTS) to ballots


@dataclass(frozen=True, slots=True)
class Ballot:
    """One voter's paper as answers of the survey: `region` is the ward, the others are parties."""

    region: str
    first: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Election:
    """Every ballot paper; `ballots[n]` was written by `counts[n]` voters."""

    wards: dict[str, str]  # region to the ward's name
    parties: tuple[str, ...]
    ballots: tuple[Ballot, ...]
    counts: tuple[int, ...]

    @property
    def papers(self) -> int:
        """How many voters there were."""
        return sum(self.counts)

    def sample(self, papers: int, seed: int) -> list[Ballot]:
        """Return that many of the papers in random order, each at most once; the same for the same seed.

        Raises:
            ValueError: there are not so many.
        """
        upto = list(accumulate(self.counts))
        chosen = random.Random(seed).sample(range(self.papers), papers)  # noqa: S311 - repeatable, not secret
        return [self.ballots[bisect_right(upto, number)] for number in chosen]

    def survey(self) -> dict[str, object]:
        """Return the body that creates the survey."""
        options = [{"text": party} for party in self.parties]
        return {
            "title": "Glasgow City Council election, 5 May 2022",
            "regions": list(self.wards),
            "questions": [
                {"title": QUESTIONS[0], "min": 1, "max": 1, "options": options},
                {"title": QUESTIONS[1], "min": 0, "max": len(options), "options": options},
            ],
        }


def read_election(folder: Path = FOLDER) -> Election:
    """Read the files of `examples/glasgow-2022`."""
    wards = json.loads((folder / "wards.json").read_text())
    parties = {ward["ward"]: [candidate["party"] for candidate in ward["candidates"]] for ward in wards}
    with (folder / "ballots.csv").open(newline="") as file:
        rows = [(int(row["ward"]), int(row["count"]), row["preferences"]) for row in csv.DictReader(file)]
    return Election(
        wards={_region(ward["ward"]): ward["name"] for ward in wards},
        parties=tuple(sorted({party for ward in parties.values() for party in ward})),
        ballots=tuple(_ballot(ward, parties[ward], preferences.split()) for ward, _, preferences in rows),
        counts=tuple(count for _, count, _ in rows),
    )


def add_up(ballots: Iterable[Ballot]) -> Totals:
    """Return what these ballots must come to."""
    totals: Totals = Counter()
    for ballot in ballots:
        totals[ballot.region, 0, BALLOTS] += 1
        totals[ballot.region, 1, ballot.first] += 1
        for party in ballot.others:
            totals[ballot.region, 2, party] += 1
    return totals


def _region(ward: int) -> str:
    return f"ward-{ward}"


def _ballot(ward: int, parties: Sequence[str], preferences: Sequence[str]) -> Ballot:
    first, *others = (parties[int(number) - 1] for number in preferences)
    # dict: each party once, in the order of the paper
    return Ballot(_region(ward), first, tuple(party for party in dict.fromkeys(others) if party != first))
