import pytest

from domain.answer_sessions import Choice, add_choice, ballot_of
from domain.ballots import Answer, BallotRules
from domain.errors import DomainError, ErrorCode
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
