"""What every activity, workflow, update and signal takes and returns, read from their annotations."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from temporalio import activity, workflow

import activities
from domain.contracts.base import Contract
from domain.signatures import Signature, Signatures
from workflows.registry import WORKFLOWS


@cache  # the code does not change while it runs
def all_signatures() -> Signatures:
    """Return the signatures of every activity and workflow that there is."""
    definitions = [workflow._Definition.must_from_class(kind) for kind in WORKFLOWS]  # noqa: SLF001 - no public way
    messages = {
        (str(found.name), str(name)): _signature(function)
        for found in definitions
        for name, function in [
            *((name, each.fn) for name, each in found.updates.items()),
            *((name, each.fn) for name, each in found.signals.items()),
        ]
    }
    return Signatures(
        activities=dict(_activities()),
        workflows={str(found.name): _signature(found.run_fn) for found in definitions},
        messages=messages,
    )


def _activities() -> Iterator[tuple[str, Signature]]:
    for found in pkgutil.iter_modules(activities.__path__, "activities."):
        module = importlib.import_module(found.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            for _, function in inspect.getmembers(kind, inspect.isfunction):
                definition = activity._Definition.from_callable(function)  # noqa: SLF001 - no public way
                if definition is not None and definition.name:
                    yield definition.name, _signature(function)


def _signature(function: Callable[..., Any]) -> Signature:
    hints = typing.get_type_hints(function)
    came = _contract(hints.pop("return", None))
    given = next((found for found in map(_contract, hints.values()) if found is not None), None)
    return Signature(given, came)


def _contract(hint: Any) -> type[Contract] | None:
    for each in (hint, *typing.get_args(hint)):
        if isinstance(each, type) and issubclass(each, Contract):
            return each
    return None
