"""What histories and topics keep for years stays readable: fields are only ever added, with a default."""

import copy
import json
from functools import reduce
from operator import getitem
from typing import Any

import pytest

from tests.contracts.models import (
    EXAMPLES,
    SCHEMAS,
    Json,
    breaking_changes,
    contract_models,
    schema_of,
    stored_examples,
    stored_schema,
)

MODELS = contract_models()


def test_there_are_contracts_and_nothing_is_stored_of_others() -> None:
    assert len(MODELS) > 25
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(MODELS)
    assert {path.stem.rpartition("-")[0] for path in EXAMPLES.glob("*.json")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_contract_only_grows_and_what_is_stored_is_current(name: str) -> None:
    before, after = stored_schema(name), schema_of(MODELS[name])
    assert before is not None, f"{name} is not stored: python -m tests.contracts.record"
    assert breaking_changes(before, after) == []
    assert before == after, f"{name} has grown: python -m tests.contracts.record"


@pytest.mark.parametrize("name", MODELS)
def test_every_form_that_a_contract_ever_had_is_readable_and_keeps_its_meaning(name: str) -> None:
    examples = stored_examples(name)
    assert examples
    for stored in examples.values():
        read = json.loads(MODELS[name].model_validate_json(json.dumps(stored)).model_dump_json())
        assert _covers(read, stored), (read, stored)


@pytest.mark.parametrize("name", MODELS)
def test_a_contract_ignores_what_a_later_release_adds(name: str) -> None:
    (stored, *_) = stored_examples(name).values()
    model = MODELS[name]
    later = model.model_validate_json(json.dumps({**stored, "added_by_a_later_release": {"deep": [1]}}))
    assert later == model.model_validate_json(json.dumps(stored))


def _covers(read: Any, stored: Any) -> bool:
    """Tell whether everything that was stored is read, with the same value; more may be there."""
    if isinstance(stored, dict):
        return isinstance(read, dict) and all(name in read and _covers(read[name], stored[name]) for name in stored)
    if isinstance(stored, list):
        return len(read) == len(stored) and all(map(_covers, read, stored))
    return bool(read == stored)


def _without(schema: Json, field: str) -> None:
    del schema["properties"][field]


def _retyped(schema: Json, field: str) -> None:
    schema["properties"][field] = {"type": "boolean"}


def _required(schema: Json, field: str) -> None:
    schema["properties"][field + "_too"] = {"type": "string"}
    schema["required"].append(field + "_too")


def _renamed(schema: Json, field: str) -> None:
    schema["properties"][field + "_new"] = schema["properties"].pop(field)


@pytest.mark.parametrize("change", [_without, _retyped, _required, _renamed])
def test_a_change_that_is_no_addition_is_noticed(change: Any) -> None:
    before = schema_of(MODELS["SubmitVotesInput"])
    for place in ((), ("$defs", "SealedVote")):
        after = copy.deepcopy(before)
        found = reduce(getitem, place, after)
        change(found, next(iter(found["properties"])))
        assert breaking_changes(before, after), change


def test_an_addition_with_a_default_is_none() -> None:
    before = schema_of(MODELS["SealedVote"])
    after = copy.deepcopy(before)
    after["properties"]["channel"] = {"type": "string", "default": "web"}
    assert breaking_changes(before, after) == []


def test_an_enumeration_grows_and_never_shrinks() -> None:
    before = schema_of(MODELS["Survey"])
    more, less = copy.deepcopy(before), copy.deepcopy(before)
    more["$defs"]["Visibility"]["enum"].append("jury")
    less["$defs"]["Visibility"]["enum"].remove("staff")
    assert breaking_changes(before, more) == []
    assert breaking_changes(before, less)
