"""What a role does not see is not there, whatever is in it; and every field of every contract is decided on."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from domain.accounts import ClaimState
from domain.contracts.base import Contract
from domain.contracts.login import (
    AssessLoginInput,
    ChallengeOutcome,
    LoginSight,
    PastLogins,
    RedeemedChallenge,
    SeenDevice,
)
from domain.contracts.registration import CaseFinding, ClaimedDocument, NoteStageInput, VerifiedIdentity
from domain.contracts.rejudging import JudgedOutcome
from domain.contracts.voting import RecordedVotes, RecordVotesInput
from domain.field_classes import FIELD_CLASSES, FieldClass
from domain.login_risk import CURRENT_LOGIN_POLICY
from domain.logins import judged
from domain.masking import MASK, masked, masked_contact, masked_mail, masked_phone
from domain.tokens import Role
from tests.contracts.models import contract_models, example_of
from tests.masking_walk import SEEN, texts, told_elsewhere, values

MODELS = contract_models()


def example(name: str) -> Contract:
    return MODELS[name].model_validate_json(json.dumps(example_of(MODELS[name])))


@pytest.mark.parametrize("name", MODELS)
def test_every_field_of_a_contract_has_a_class(name: str) -> None:
    decided = FIELD_CLASSES.get(name, {})
    missing = set(MODELS[name].model_fields) - set(decided)
    assert not missing, f"domain/field_classes.py does not say who may see {name}.{', '.join(sorted(missing))}"
    assert set(decided) <= set(MODELS[name].model_fields)


def test_nothing_is_decided_of_contracts_that_are_none() -> None:
    assert set(FIELD_CLASSES) == set(MODELS)


def check_fields(contract: BaseModel, shown: dict[str, Any], seen: set[FieldClass]) -> None:
    """Walk every field: what a role may not see is masked where it is personal, and else not there by name."""
    for name, kind in FIELD_CLASSES[type(contract).__name__].items():
        if kind not in seen:
            assert shown.get(name, MASK) == MASK
            assert (name in shown) == (kind is FieldClass.PERSONAL and bool(seen))
            continue
        for held, said in zip(values(getattr(contract, name)), values_shown(shown[name]), strict=True):
            if isinstance(held, BaseModel):
                check_fields(held, said, seen)


def values_shown(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", MODELS)
def test_a_role_sees_no_field_that_is_not_its_own(name: str) -> None:
    contract = example(name)
    for role in Role:
        seen = SEEN.get(role, set())
        shown = masked(contract, {role})
        check_fields(contract, shown, seen)
        written = json.dumps(shown)
        permitted = {text for is_hidden, text in texts(contract, seen) if not is_hidden}
        for is_hidden, text in texts(contract, seen):
            assert not is_hidden or text in permitted or json.dumps(text) not in written, role


def test_what_speaks_against_a_device_is_told_to_support_in_no_field() -> None:
    example_login = example(AssessLoginInput.__name__)
    assert isinstance(example_login, AssessLoginInput)
    seen = SeenDevice(score_permille=900, reasons=("tor", "bot"), flags=("tor", "bot"), travel_kmh=9_000)
    past = PastLogins(
        my_logins=9,
        all_logins=99,
        counts=(),
        account_attempts_per_hour=0,
        network_attempts_per_minute=0,
        failures_per_hour=0,
    )
    sight = LoginSight(device=seen, challenge=RedeemedChallenge(outcome=ChallengeOutcome.PASSED), past=past)
    login = judged(example_login, sight, CURRENT_LOGIN_POLICY, datetime(2026, 5, 7, tzinfo=UTC))
    again = JudgedOutcome(decision=login.verdict.decision.value, reasons=login.verdict.reasons)
    assert {"tor", "bot", "impossible_travel"} <= set(again.reasons)
    history = [sight, login, login.signals, login.verdict, again]
    shown = json.dumps([masked(each, {Role.SUPPORT}) for each in history])
    assert not [word for word in ("tor", "bot", "impossible_travel") if f'"{word}"' in shown]
    assert not told_elsewhere(history, Role.SUPPORT)
    assert masked(login.verdict, {Role.SUPPORT})["decision"] == login.verdict.decision.value
    assert masked(login.verdict, {Role.COMPLIANCE})["reasons"] == list(login.verdict.reasons)


def test_support_reads_what_a_refused_person_is_told() -> None:
    told = ("registered_elsewhere", "home_cell:us")
    history = [
        ClaimedDocument(state=ClaimState.ELSEWHERE, person_id="p_somebody", home_cell="us"),
        VerifiedIdentity(decision="refused", reasons=told),
    ]
    assert not told_elsewhere(history, Role.SUPPORT)
    assert masked(history[0], {Role.SUPPORT}) == {"state": "elsewhere", "person_id": MASK, "home_cell": "us"}
    assert masked(history[1], {Role.SUPPORT})["reasons"] == list(told)


def test_two_roles_see_what_either_sees() -> None:
    found = VerifiedIdentity(decision="approved", person_id="p_somebody", staff_reasons=("selfie",))
    assert masked(found, {Role.SUPPORT})["person_id"] == MASK
    assert masked(found, {Role.SUPPORT, Role.COMPLIANCE}) == masked(found, {Role.COMPLIANCE})
    assert masked(found, {Role.COMPLIANCE})["person_id"] == "p_somebody"
    assert masked(found, ()) == masked(found, {Role.ADMIN}) == {}


def test_votes_are_shown_to_nobody() -> None:
    for model in (RecordVotesInput, RecordedVotes):
        shown = json.dumps(masked(example(model.__name__), set(Role)))
        for word in ("votes", "nullifier", "sealed", "outcomes", "summaries", "options"):
            assert word not in shown


def test_what_a_login_brought_and_what_a_document_was_are_shown_to_nobody() -> None:
    login = masked(example(AssessLoginInput.__name__), set(Role))
    assert {"jkt", "nonce", "challenge_token", "device_event_id", "seen", "provider_session"}.isdisjoint(login)
    finding = masked(example(CaseFinding.__name__), set(Role))
    assert "documents" not in finding
    assert masked(example(CaseFinding.__name__), {Role.SUPPORT})["age_class"] == MASK


def test_a_field_that_nobody_decided_on_is_left_out() -> None:
    class Later(NoteStageInput):
        new_text: str = "anything"

    assert masked(Later(registration_id="r", revision=1, stage="review"), set(Role)) == {}


def test_a_value_of_a_kind_that_nobody_decided_on_is_masked() -> None:
    class Renamed(Contract):
        stage: dict[str, str]

    Renamed.__name__ = NoteStageInput.__name__
    assert masked(Renamed(stage={"mail": "anna@example.org"}), set(Role)) == {"stage": MASK}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("anna.long@domain.org", "a***@d***.org"),
        ("x@mail.example.co.uk", "x***@m***.uk"),
        ("no address", MASK),
        ("@domain.org", MASK),
        ("a@localhost", MASK),
        ("", MASK),
    ],
)
def test_of_a_mail_address_first_letters_are_left(address: str, shown: str) -> None:
    assert masked_mail(address) == shown


@pytest.mark.parametrize(("number", "shown"), [("+49 151 2345678", "+***78"), ("110", MASK), ("", MASK)])
def test_of_a_telephone_number_two_digits_are_left(number: str, shown: str) -> None:
    assert masked_phone(number) == shown


def test_of_personal_data_nothing_but_masked_contacts_is_shown() -> None:
    data = {"mail": "anna@domain.org", "phone": "+491512345678", "name": "Anna", "document_number": "C01X00T47"}
    assert masked_contact(data) == {"mail": "a***@d***.org", "phone": "+***78"}
    assert masked_contact({}) == {}
