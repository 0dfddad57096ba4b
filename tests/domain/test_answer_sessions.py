"""Step-by-step answers: what a session holds, and the ballot that it becomes."""

import json

import pytest

from domain.answer_sessions import Choice, add_choice, ballot_of
from domain.ballots import PACKED_BYTES_MAX, Answer, BallotRules
from domain.contracts.surveys import Option, Question
from domain.errors import DomainError, ErrorCode
from integrations.postgres.answer_sessions import _STATE_BYTES
from tests.voting_world import small_survey

RULES = BallotRules(small_survey())


def test_a_question_of_one_option_takes_the_last_and_keeps_its_number() -> None:
    choices, number = add_choice(RULES, (), Choice("1", "1", ""))
    assert number == 1
    choices, number = add_choice(RULES, choices, Choice("1", "3", ""))
    assert number == 1
    assert ballot_of(choices) == (Answer("1", ("3",)),)


def test_the_same_choice_again_is_the_same_choice() -> None:
    choices, _ = add_choice(RULES, (), Choice("2", "4", ""))
    again, number = add_choice(RULES, choices, Choice("2", "4", ""))
    assert (again, number) == (choices, 1)


def test_several_options_and_a_text_make_one_answer() -> None:
    choices: tuple[Choice, ...] = ()
    for choice in (Choice("2", "4", ""), Choice("2", None, "because"), Choice("2", "5", "")):
        choices, _ = add_choice(RULES, choices, choice)
    assert ballot_of(choices) == (Answer("2", ("4", "5"), "because"),)


def test_the_text_that_came_last_stands_whichever_option_it_came_with() -> None:
    choices: tuple[Choice, ...] = ()
    for choice in (Choice("2", "4", "first"), Choice("2", "5", "second"), Choice("2", "4", "last")):
        choices, _ = add_choice(RULES, choices, choice)
    assert ballot_of(choices) == (Answer("2", ("4", "5"), "last"),)
    choices, _ = add_choice(RULES, choices, Choice("2", None, "no, this"))
    assert ballot_of(choices) == (Answer("2", ("4", "5"), "no, this"),)


@pytest.mark.parametrize(
    ("choice", "code"),
    [
        (Choice("9", "1", ""), ErrorCode.QUESTION_UNKNOWN),
        (Choice("1", "4", ""), ErrorCode.OPTION_UNKNOWN),
        (Choice("1", "1", "text"), ErrorCode.TEXT_NOT_ALLOWED),
        (Choice("2", "4", "x" * 21), ErrorCode.TEXT_TOO_LONG),
    ],
)
def test_a_step_that_breaks_a_rule_is_refused(choice: Choice, code: ErrorCode) -> None:
    with pytest.raises(DomainError) as refused:
        add_choice(RULES, (), choice)
    assert refused.value.code is code


def test_more_options_than_the_question_allows_are_refused() -> None:
    rules = BallotRules(small_survey())
    choices = (Choice("2", "4", ""), Choice("2", "5", ""))
    with pytest.raises(DomainError) as refused:
        add_choice(rules, (*choices,), Choice("2", "6", ""))
    assert refused.value.code is ErrorCode.OPTION_UNKNOWN


def test_a_session_never_holds_more_than_a_ballot_may() -> None:
    many = tuple(Option(id=str(number), text=f"Option {number}") for number in range(10))
    longest = Question(id="1", title="Which?", min=0, max=10, order=0, options=many, text_max=900)
    rules = BallotRules(small_survey(questions=(longest,)))
    assert rules.packed_bytes <= PACKED_BYTES_MAX
    choices: tuple[Choice, ...] = ()
    for option in many:
        choices, _ = add_choice(rules, choices, Choice("1", option.id, "\N{GRINNING FACE}" * 900))
    written = json.dumps([(choice.question, choice.option, choice.text) for choice in choices])
    assert len(written) < _STATE_BYTES
