"""How many votes a cell is given at once, and whose."""

import base64
import json

import pytest

from api.votes.gate import VoteGate
from api.votes.intake import IntakeLimits, VoteIntake

LIMITS = IntakeLimits(least=10, most=100, wait_s=0.5)


def filled(votes: int, survey: str = "hot", limits: IntakeLimits = LIMITS) -> VoteIntake:
    intake = VoteIntake(limits)
    for _ in range(votes):
        intake.enter(survey)
    return intake


def bearer(cell: str, survey: str) -> bytes:
    claims = base64.urlsafe_b64encode(json.dumps({"cell": cell, "survey": survey, "other": 1}).encode()).rstrip(b"=")
    return b"Bearer aGVhZA." + claims + b".c2lnbmF0dXJl"


def test_below_the_limit_everybody_is_taken() -> None:
    intake = filled(9)
    assert intake.takes("hot")
    assert not intake.full
    intake.enter("hot")
    assert intake.full
    assert not intake.takes("hot")
    intake.leave("hot")
    assert intake.takes("hot")
    assert not intake.full
    intake.leave("hot")
    intake.enter("cold")
    assert intake.takes("hot")  # whoever has the most of what is there: nobody is kept out by a share


def test_at_the_limit_it_is_full_whatever_came_last() -> None:
    intake = filled(10)
    intake.enter("cold")
    intake.leave("cold")
    assert intake.full
    intake.adapt(0.1)
    assert intake.full


def test_a_hot_survey_leaves_a_cold_one_its_share() -> None:
    intake = filled(10)
    for _ in range(5):
        assert intake.takes("cold")
        intake.enter("cold")
    assert not intake.takes("cold")  # half of ten is its share of two
    assert not intake.takes("hot")
    assert intake.takes("third")


def test_a_share_is_had_again_once_its_votes_are_answered() -> None:
    intake = filled(10)
    for _ in range(5):
        intake.enter("cold")
    for _ in range(3):
        intake.leave("cold")
        assert intake.takes("cold")
        intake.enter("cold")
        assert not intake.takes("cold")
    intake.enter("third")
    for _ in range(2):
        intake.leave("cold")
    assert not intake.takes("cold")  # a third of ten is three, now that three surveys have votes here
    intake.leave("third")
    assert intake.takes("cold")  # half of ten is five: nothing is kept for who has none


def test_however_many_surveys_there_are_there_is_an_end() -> None:
    intake = filled(10)
    taken = 0
    for number in range(1000):
        if intake.takes(f"s{number}"):
            intake.enter(f"s{number}")
            taken += 1
    assert intake.votes == LIMITS.most == 10 + taken


def test_the_limit_follows_the_rate_of_answers() -> None:
    intake = VoteIntake(LIMITS)
    for _ in range(10):
        for _ in range(12):
            intake.enter("hot")
            intake.leave("hot")
        intake.adapt(0.1)
    assert intake.limit == 60  # 120 per second, for half a second
    for _ in range(60):
        intake.enter("hot")
    for _ in range(60):
        intake.leave("hot")
    intake.adapt(0.1)
    for _ in range(10):
        for _ in range(50):
            intake.enter("hot")
            intake.leave("hot")
        intake.adapt(0.1)
    assert intake.limit == LIMITS.most
    for _ in range(10):
        intake.adapt(0.1)
    assert intake.limit == LIMITS.least


def test_a_place_that_is_given_up_says_nothing_about_the_rate() -> None:
    intake = filled(10)
    for _ in range(10):
        intake.leave("hot", answered=False)
    intake.adapt(0.1)
    assert (intake.votes, intake.rate, intake.limit) == (0, 0, LIMITS.least)


def test_a_cell_that_stands_still_takes_nothing_from_another() -> None:
    eu, us = VoteIntake(LIMITS), filled(100)
    gate = VoteGate()
    gate.add("eu", eu, lambda _: True)
    gate.add("us", us, lambda _: True)
    assert gate.full
    assert gate.refuses("s", bearer("us", "s"))
    assert not gate.refuses("s", bearer("eu", "s"))


def test_the_token_names_the_survey_where_the_address_does_not() -> None:
    intake = filled(10)
    gate = VoteGate()
    gate.add("eu", intake, lambda survey: survey != "unknown")
    assert gate.refuses("", bearer("eu", "hot"))
    assert not gate.refuses("", bearer("eu", "cold"))
    assert gate.refuses("", bearer("eu", "unknown"))  # else anybody could invent surveys with a share each


@pytest.mark.parametrize(
    "authorization",
    [b"", b"Bearer", b"Bearer x", b"Bearer a.b.c", b"Bearer a.!!!.c", b"Bearer a.bnVsbA.c", bearer("elsewhere", "s")],
)
def test_what_names_no_cell_goes_on_to_be_told_why(authorization: bytes) -> None:
    gate = VoteGate()
    gate.add("eu", filled(100), lambda _: True)
    assert not gate.refuses("hot", authorization)
