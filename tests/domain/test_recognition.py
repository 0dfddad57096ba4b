"""A document whose contract nobody names is shown no further than the contract that it was written as permits."""

import json
from typing import Any

import pytest

from domain.contracts.accounts import LinkUse
from domain.contracts.base import Contract
from domain.contracts.voting import RecordedVotes, SubmitVotesResult
from domain.masking import MASK, masked
from domain.recognition import Recognition, _common, every_contract
from domain.tokens import Role
from tests.contracts.models import contract_models, example_of, stored_examples

MODELS = contract_models()
RECOGNITION = Recognition(every_contract())
ROLES = [*({role} for role in Role), {Role.SUPPORT, Role.COMPLIANCE}, set[Role]()]


def within(shown: Any, permitted: Any) -> bool:
    """Tell whether nothing is shown that is not permitted; what is masked or left out says nothing."""
    if shown == MASK:
        return True
    if isinstance(shown, dict):
        return isinstance(permitted, dict) and all(
            name in permitted and within(value, permitted[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return isinstance(permitted, list) and all(map(within, shown, permitted))
    return bool(shown == permitted)


def forms(name: str) -> list[bytes]:
    """Return documents of a contract: as it is, as it ever was, and without each field that has a default."""
    whole = example_of(MODELS[name])
    optional = [field for field, of in MODELS[name].model_fields.items() if not of.is_required()]
    fewer = [{key: value for key, value in whole.items() if key != field} for field in optional]
    least = {key: value for key, value in whole.items() if key not in optional}
    return [json.dumps(form).encode() for form in (whole, *stored_examples(name).values(), *fewer, least)]


def test_every_contract_is_considered() -> None:
    assert set(every_contract()) == set(MODELS.values())


@pytest.mark.parametrize("name", MODELS)
def test_no_other_reading_shows_what_its_own_contract_hides(name: str) -> None:
    for document in forms(name):
        own = MODELS[name].model_validate_json(document)
        assert own in RECOGNITION.readings(document)
        for roles in ROLES:
            assert within(RECOGNITION.shown(document, roles), masked(own, roles))


def test_what_is_one_thing_alone_is_shown_as_its_role_sees_it() -> None:
    alone = [
        name for name, model in MODELS.items() if len(RECOGNITION.readings(json.dumps(example_of(model)).encode())) == 1
    ]
    assert len(alone) > 100
    for name in alone:
        document = json.dumps(example_of(MODELS[name])).encode()
        own = MODELS[name].model_validate_json(document)
        assert RECOGNITION.shown(document, {Role.COMPLIANCE}) == masked(own, {Role.COMPLIANCE})


def test_what_two_readings_show_differently_is_masked() -> None:
    one = {"a": 1, "b": [1, {"c": "x"}], "d": True, "only": "one"}
    other = {"a": 2, "b": [1, {"c": "x"}], "d": 1}
    assert _common(one, other) == {"a": MASK, "b": [1, {"c": "x"}], "d": MASK}
    assert _common([1], [1, 2]) == MASK


def test_what_is_hidden_in_one_reading_is_left_out() -> None:
    class Open(Contract):
        value: str
        count: int

    class Closed(Contract):
        value: str
        count: int
        more: str = ""

    document = b'{"value": "seen", "count": 1}'
    assert Recognition([LinkUse]).shown(b'{"used": true}', {Role.SUPPORT}) == {"used": True}
    assert Recognition([Open, Closed]).shown(document, {Role.SUPPORT}) == {}  # they have no classes
    result = json.dumps(example_of(SubmitVotesResult)).encode()
    assert {type(found) for found in RECOGNITION.readings(result)} == {RecordedVotes, SubmitVotesResult}
    assert RECOGNITION.shown(result, set(Role)) == {}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b'"a name"',
        b"[1, 2]",
        b"17",
        b"\xff",
        b"{",
        b'{"used": true, "name": "Anna"}',
        b'{"used": "Anna"}',
    ],
)
def test_of_what_is_no_contract_nothing_is_shown(document: bytes) -> None:
    assert RECOGNITION.shown(document, set(Role)) == MASK


def test_a_document_of_a_later_release_is_not_taken_for_another() -> None:
    later = {**example_of(LinkUse), "added_by_a_later_release": "Anna"}
    assert RECOGNITION.shown(json.dumps(later).encode(), set(Role)) == MASK
