"""The ballots of the example and what they add up to."""

import json
from collections import Counter

import pytest

from comitia.demo.glasgow import FOLDER, Ballot, Election, add_up, read_election
from domain.tally import BALLOTS


@pytest.fixture(scope="module")
def election() -> Election:
    return read_election()


def test_every_paper_is_there(election: Election) -> None:
    assert election.papers == 173_289
    assert len(election.wards) == 23
    assert election.wards["ward-1"] == "Ward 1 Linn"
    assert len(election.parties) == 15


def test_totals_are_those_of_the_file(election: Election) -> None:
    firsts: Counter[str] = Counter()
    wards = {ward["ward"]: ward["candidates"] for ward in json.loads((FOLDER / "wards.json").read_text())}
    for line in (FOLDER / "ballots.csv").read_text().splitlines()[1:]:
        ward, count, preferences = line.split(",")
        firsts[wards[int(ward)][int(preferences.split()[0]) - 1]["party"]] += int(count)
    totals = add_up(election.sample(election.papers, seed=1))
    counted: Counter[str] = Counter()
    for (_, question, party), votes in totals.items():
        if question == 1:
            counted[party] += votes
    assert counted == firsts
    assert sum(votes for (_, question, _), votes in totals.items() if question == 0) == 173_289


def test_the_same_seed_takes_the_same_papers_and_another_takes_others(election: Election) -> None:
    assert election.sample(500, seed=7) == election.sample(500, seed=7)
    assert election.sample(500, seed=7) != election.sample(500, seed=8)


def test_no_paper_is_taken_twice(election: Election) -> None:
    written = dict.fromkeys(election.ballots, 0)
    for ballot, count in zip(election.ballots, election.counts, strict=True):
        written[ballot] += count
    assert Counter(election.sample(election.papers, seed=3)) == written
    with pytest.raises(ValueError, match="larger"):
        election.sample(election.papers + 1, seed=3)


def test_adding_up() -> None:
    ballots = [Ballot("ward-1", "A", ("B", "C")), Ballot("ward-1", "A", ()), Ballot("ward-2", "B", ("A",))]
    assert add_up(ballots) == {
        ("ward-1", 0, BALLOTS): 2,
        ("ward-1", 1, "A"): 2,
        ("ward-1", 2, "B"): 1,
        ("ward-1", 2, "C"): 1,
        ("ward-2", 0, BALLOTS): 1,
        ("ward-2", 1, "B"): 1,
        ("ward-2", 2, "A"): 1,
    }


def test_the_first_party_is_not_among_the_others(election: Election) -> None:
    for ballot in election.ballots:
        assert ballot.first not in ballot.others
        assert len(set(ballot.others)) == len(ballot.others)
