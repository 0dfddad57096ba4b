import re
from datetime import timedelta
from uuid import UUID

import pytest

from domain.ids import CASE_ID, cell_in, new_registration_id, person_id_of, proofing_case_id
from domain.registration import (
    CODE_DIGITS,
    PROOFING,
    Reason,
    RegistrationPolicy,
    age_class_of,
    code_value,
    contact_code,
    may_appeal,
    pause_before_look,
    refusal_of,
)


@pytest.mark.parametrize(("years", "expected"), [(0, 0), (15, 0), (16, 16), (17, 16), (18, 18), (99, 18)])
def test_an_age_class_is_what_is_known_to_be_reached(years: int, expected: int) -> None:
    assert age_class_of(years) == expected


@pytest.mark.parametrize(("minimum_age", "admitted"), [(0, {0, 16, 18}), (16, {16, 18}), (18, {18})])
def test_whoever_has_reached_the_age_is_not_refused(minimum_age: int, admitted: set[int]) -> None:
    refused = {age: refusal_of(same_face=False, age_class=age, minimum_age=minimum_age) for age in (0, 16, 18)}
    assert {age for age, reason in refused.items() if reason is None} == admitted


def test_a_policy_without_regions_is_for_everybody() -> None:
    assert RegistrationPolicy().admits_region("anywhere")
    assert not RegistrationPolicy(regions=frozenset({"ward-1"})).admits_region("anywhere")


@pytest.mark.parametrize("region", ["", "=1+1", "my own", "DE\n", "dé", "-DE", "x" * 65, "DE\u2028"])
def test_no_policy_admits_a_region_that_no_survey_could_name(region: str) -> None:
    assert not RegistrationPolicy().admits_region(region)
    assert not RegistrationPolicy(regions=frozenset({region})).admits_region(region)


def test_looks_become_rare_and_never_rarer_than_every_six_hours() -> None:
    pauses = [pause_before_look(looks) for looks in range(200)]
    assert pauses[0] == timedelta(seconds=30)
    assert pauses == sorted(pauses)
    assert pauses[-1] == timedelta(hours=6)


def test_reminders_come_in_their_order_and_before_the_end() -> None:
    assert [PROOFING.next_reminder(sent) for sent in range(4)] == [*PROOFING.remind_after, None]
    assert all(after < PROOFING.expires_after for after in PROOFING.remind_after)


def test_a_code_has_its_digits_and_belongs_to_one_registration() -> None:
    codes = {contact_code(bytes([number]) * 32) for number in range(100)}
    assert len(codes) == 100
    assert all(len(code) == CODE_DIGITS and code.isdigit() for code in codes)
    assert contact_code(bytes(32)) == "0" * CODE_DIGITS
    assert code_value("r_eu_a", "1") != code_value("r_eu_b", "1")


@pytest.mark.parametrize(
    ("reason", "appealable"), [(Reason.UNDER_AGE, True), ("forgery", True), (Reason.ALREADY_REGISTERED, False)]
)
def test_who_has_an_account_already_cannot_appeal(reason: str, *, appealable: bool) -> None:
    assert may_appeal(["whatever", reason]) is appealable


def test_a_case_goes_by_an_id_that_leads_back_to_its_registration() -> None:
    registration = new_registration_id("eu")
    case_id = proofing_case_id(registration, 12)
    found = CASE_ID.fullmatch(case_id)
    assert found is not None
    assert (found["registration"], found["case_no"]) == (registration, "12")
    assert cell_in(CASE_ID, case_id) == "eu"
    assert CASE_ID.fullmatch(proofing_case_id(registration, 0)) is None


def test_a_person_id_made_of_a_uuid_is_one() -> None:
    assert re.fullmatch(r"p_[a-z2-7]{26}", person_id_of(UUID(int=2**128 - 1)))
    assert person_id_of(UUID(int=1)) == person_id_of(UUID(int=1)) != person_id_of(UUID(int=2))
