import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ballots import PACKED_BYTES_MAX, Answer, BallotRules, answers_of, unpack
from domain.errors import DomainError, ErrorCode
from tests.voting_world import REGION, small_survey

RULES = BallotRules(small_survey())


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([], ErrorCode.TOO_FEW_OPTIONS),
        ([Answer("2", ("4",))], ErrorCode.TOO_FEW_OPTIONS),
        ([Answer("1", ())], ErrorCode.TOO_FEW_OPTIONS),
        ([Answer("1", ("1", "2"))], ErrorCode.TOO_MANY_OPTIONS),
        ([Answer("1", ("9",))], ErrorCode.OPTION_UNKNOWN),
        ([Answer("1", ("4",))], ErrorCode.OPTION_UNKNOWN),
        ([Answer("7", ("1",))], ErrorCode.QUESTION_UNKNOWN),
        ([Answer("1", ("1",)), Answer("1", ("2",))], ErrorCode.QUESTION_REPEATED),
        ([Answer("1", ("1",)), Answer("2", ("4", "4"))], ErrorCode.OPTION_REPEATED),
        ([Answer("1", ("1",), "hello")], ErrorCode.TEXT_NOT_ALLOWED),
        ([Answer("1", ("1",)), Answer("2", (), "x" * 21)], ErrorCode.TEXT_TOO_LONG),
        ([Answer("1", ("1",)), Answer("2", (), "a\x00b")], ErrorCode.MALFORMED_REQUEST),
    ],
)
def test_a_ballot_that_breaks_a_rule_is_refused_with_its_code(answers: list[Answer], code: ErrorCode) -> None:
    with pytest.raises(DomainError) as refused:
        RULES.check(answers)
    assert refused.value.code is code


def test_a_question_without_minimum_may_be_left_out() -> None:
    RULES.check([Answer("1", ("2",))])
    RULES.check([Answer("1", ("2",)), Answer("2", ())])


ballots = st.builds(
    lambda one, others, text: [Answer("1", (one,)), Answer("2", tuple(others), text)],
    st.sampled_from(["1", "2", "3"]),
    st.lists(st.sampled_from(["4", "5"]), unique=True),
    st.text(alphabet=st.characters(categories=("L", "N", "P")), max_size=20),
)


@given(ballots)
def test_every_ballot_takes_the_same_room_and_comes_back_as_it_was(answers: list[Answer]) -> None:
    RULES.check(answers)
    packed = RULES.pack(REGION, answers)
    assert len(packed) == RULES.packed_bytes <= PACKED_BYTES_MAX
    opened = unpack(packed)
    assert opened.region == REGION
    found = {answer.question: (set(answer.options), answer.text) for answer in answers_of(opened)}
    assert found == {answer.question: (set(answer.options), answer.text) for answer in answers}


def test_the_order_of_clicks_is_not_kept() -> None:
    forwards = RULES.pack(REGION, [Answer("1", ("1",)), Answer("2", ("4", "5"))])
    backwards = RULES.pack(REGION, [Answer("2", ("5", "4")), Answer("1", ("1",))])
    assert forwards == backwards


def test_the_longest_ballot_fits_its_room() -> None:
    longest = RULES.pack(REGION, [Answer("1", ("3",)), Answer("2", ("4", "5"), "\U0001f5f3" * 20)])
    assert len(longest) == RULES.packed_bytes


@given(st.binary(max_size=300))
def test_what_is_not_a_packed_ballot_is_refused(noise: bytes) -> None:
    try:
        unpack(noise)
    except ValueError:
        return
