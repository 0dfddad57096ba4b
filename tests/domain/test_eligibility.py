"""Who may vote, and what admission gives a vote."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.eligibility import Candidate, Electorate, VoterStatus, admit, evidence_message, nullifier
from domain.errors import DomainError, ErrorCode
from domain.framing import framed
from domain.pseudonyms import pseudonym
from domain.tokens import Assurance

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SURVEY = "s_aaaaaaaaaaaaaaaa"
VOTER = Candidate(
    "v_eu_" + "a" * 26, "p_" + "a" * 26, VoterStatus.ACTIVE, Assurance.SUBSTANTIAL, "DE", 18, on_roll=True
)
FOR_ALL = Electorate(
    SURVEY, frozenset(), 0, roll_required=False, start_at=None, finish_at=None, eligibility_key=b"k" * 32
)


def refusal(voter: Candidate | None, electorate: Electorate | None) -> ErrorCode:
    with pytest.raises(DomainError) as raised:
        admit(voter, electorate, NOW)
    return raised.value.code


def test_eligible_voter_is_admitted_as_a_person() -> None:
    strict = replace(FOR_ALL, regions=frozenset({"DE", "FR"}), minimum_age=18, roll_required=True)
    assert admit(VOTER, FOR_ALL, NOW) == VOTER.person_id
    assert admit(VOTER, strict, NOW) == VOTER.person_id
    assert admit(replace(VOTER, assurance=Assurance.HIGH), strict, NOW) == VOTER.person_id


@pytest.mark.parametrize(
    ("voter", "electorate", "code"),
    [
        (VOTER, None, ErrorCode.SURVEY_NOT_FOUND),
        (None, FOR_ALL, ErrorCode.VOTER_NOT_FOUND),
        (replace(VOTER, status=VoterStatus.SUSPENDED), FOR_ALL, ErrorCode.VOTER_NOT_ACTIVE),
        (replace(VOTER, status=VoterStatus.CLOSED), FOR_ALL, ErrorCode.VOTER_NOT_ACTIVE),
        (replace(VOTER, status=VoterStatus.REGISTERED), FOR_ALL, ErrorCode.VOTER_NOT_ACTIVE),
        (replace(VOTER, assurance=Assurance.LOW), FOR_ALL, ErrorCode.VOTER_NOT_VERIFIED),
        (replace(VOTER, assurance=Assurance.NONE), FOR_ALL, ErrorCode.VOTER_NOT_VERIFIED),
        (replace(VOTER, person_id=None), FOR_ALL, ErrorCode.VOTER_NOT_VERIFIED),
        (VOTER, replace(FOR_ALL, regions=frozenset({"FR"})), ErrorCode.REGION_NOT_ELIGIBLE),
        (replace(VOTER, age_class=16), replace(FOR_ALL, minimum_age=18), ErrorCode.AGE_NOT_ELIGIBLE),
        (replace(VOTER, on_roll=False), replace(FOR_ALL, roll_required=True), ErrorCode.NOT_ON_ROLL),
        (VOTER, replace(FOR_ALL, finish_at=NOW), ErrorCode.SURVEY_CLOSED),
    ],
)
def test_each_reason_has_its_code(voter: Candidate | None, electorate: Electorate | None, code: ErrorCode) -> None:
    assert refusal(voter, electorate) is code


def test_token_may_be_had_before_the_survey_opens_and_until_it_ends() -> None:
    electorate = replace(FOR_ALL, start_at=NOW + timedelta(days=1), finish_at=NOW + timedelta(microseconds=1))
    assert admit(VOTER, electorate, NOW)


def test_nullifier_is_of_the_person_in_one_survey() -> None:
    mark = nullifier(b"k" * 32, "p_1")
    assert len(mark) == 32
    assert nullifier(b"k" * 32, "p_1") == mark
    assert nullifier(b"k" * 32, "p_2") != mark
    assert nullifier(b"l" * 32, "p_1") != mark


def test_nullifier_vector() -> None:
    assert nullifier(bytes(32), "p_aaaaaaaaaaaaaaaaaaaaaaaaaa").hex() == (
        "f0ce0ca7584fd065bde430e8f0414da27e0ac133ca21149b3178b5a2e566b36f"
    )


def test_evidence_vector() -> None:
    message = evidence_message(SURVEY, b"\x11" * 32, "eu", "DE")
    assert message == (
        b"\x00\x00\x00\x12comitia/evidence/1\x00\x00\x00\x12s_aaaaaaaaaaaaaaaa\x00\x00\x00\x20"
        + b"\x11" * 32
        + b"\x00\x00\x00\x02eu\x00\x00\x00\x02DE"
    )
    assert hashlib.sha256(message).hexdigest() in (evidence_message.__doc__ or "")


def test_no_two_evidences_share_a_message() -> None:
    messages = {
        evidence_message(*fields)
        for fields in [
            (SURVEY, b"\x11" * 32, "eu", "DE"),
            (SURVEY, b"\x12" * 32, "eu", "DE"),
            (SURVEY, b"\x11" * 32, "us", "DE"),
            (SURVEY, b"\x11" * 32, "eu", "FR"),
            (SURVEY, b"\x11" * 32, "euD", "E"),
            (SURVEY + "e", b"\x11" * 32, "u", "DE"),
        ]
    }
    assert len(messages) == 6
    assert framed(b"a", b"bc") != framed(b"ab", b"c") != framed(b"abc")


def test_pseudonyms_differ_by_key_kind_and_survey() -> None:
    found = {
        pseudonym(b"k" * 32, "device", "d"),
        pseudonym(b"l" * 32, "device", "d"),
        pseudonym(b"k" * 32, "network", "d"),
        pseudonym(b"k" * 32, "device", "d", "s_1"),
        pseudonym(b"k" * 32, "device", "d", "s_2"),
    }
    assert len(found) == 5
    assert {len(one) for one in found} == {16}
