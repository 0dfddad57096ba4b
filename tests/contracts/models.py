"""Every contract model there is, and what is stored of each: a schema, and examples of every form it ever had."""

import importlib
import json
import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import domain.contracts
from domain.contracts.base import Contract

SCHEMAS = Path(__file__).parent / "schemas"
EXAMPLES = Path(__file__).parent / "examples"

Json = dict[str, Any]


def contract_models() -> dict[str, type[Contract]]:
    """Return every model of `domain/contracts`, by name."""
    for module in pkgutil.iter_modules(domain.contracts.__path__, "domain.contracts."):
        importlib.import_module(module.name)
    return {model.__name__: model for model in _below(Contract) if model.__module__.startswith("domain.contracts.")}


def _below(model: type[Contract]) -> Iterator[type[Contract]]:
    for found in model.__subclasses__():
        yield found
        yield from _below(found)


def stored_examples(name: str) -> dict[str, Json]:
    """Return the stored examples of a model, oldest first."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(EXAMPLES.glob(f"{name}-*.json"))}


def stored_schema(name: str) -> Json | None:
    """Return the stored schema of a model, or None."""
    path = SCHEMAS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def breaking_changes(before: Json, after: Json) -> list[str]:
    """Return what a reader of old data, or an old reader of new data, would stumble over; empty for additions.

    Both are JSON schemas of the same model. A field may be added with a default, and an enumeration may grow.
    """
    return list(_breaks("", before, before, after, after))


def _breaks(place: str, old: Any, old_root: Json, new: Any, new_root: Json) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        if old != new:
            yield f"{place}: {old!r} became {new!r}"
        return
    yield from _broken_kind(place, old, new)
    yield from _broken_fields(place, old, old_root, new, new_root)
    for key in ("items", "additionalProperties"):
        if key in old:
            yield from _breaks(f"{place}[]", old[key], old_root, new.get(key), new_root)
    for number, (before, after) in enumerate(zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=False)):
        yield from _breaks(f"{place}|{number}", before, old_root, after, new_root)
    if len(new.get("anyOf", ())) < len(old.get("anyOf", ())):
        yield f"{place}: takes less than before"


def _broken_kind(place: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in ("type", "format", "const", "contentEncoding"):
        if old.get(key) != new.get(key):
            yield f"{place}: {key} {old.get(key)!r} became {new.get(key)!r}"
    for value in old.get("enum", ()):
        if value not in new.get("enum", ()):
            yield f"{place}: {value!r} is gone"


def _broken_fields(
    place: str, old: Mapping[str, Any], old_root: Json, new: Mapping[str, Any], new_root: Json
) -> Iterator[str]:
    fields, known = old.get("properties", {}), new.get("properties", {})
    for name, field in fields.items():
        if name not in known:
            yield f"{place}.{name} is gone"
        else:
            yield from _breaks(f"{place}.{name}", field, old_root, known[name], new_root)
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield f"{place}.{name} has no default"


def _resolved(node: Any, root: Json) -> Any:
    if isinstance(node, Mapping) and "$ref" in node:
        return root["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def schema_of(model: type[Contract]) -> Json:
    """Return the schema of a model as it is read."""
    return model.model_json_schema(mode="validation")


def example_of(model: type[BaseModel]) -> Json:
    """Return an example with every field that the model has today."""
    found: Json = json.loads(model(**_fields(model)).model_dump_json())
    return found


def _fields(model: type[BaseModel]) -> Json:
    hints = typing.get_type_hints(model)
    return {name: _value(hints[name], name) for name in model.model_fields}


def _value(kind: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return _value(next(argument for argument in arguments if argument is not types.NoneType), name)
    if origin is tuple:
        return (_value(arguments[0], name),)
    if origin is dict:
        return {"1": _value(arguments[1], name)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind(**_fields(kind))
    examples = {
        str: f"a {name}",
        int: 7,
        float: 7.5,
        bool: True,
        bytes: bytes(range(32)),
        datetime: datetime(2026, 1, 2, tzinfo=UTC),
    }
    return examples[kind]
