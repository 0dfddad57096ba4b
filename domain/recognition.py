"""What a stored document is, where nobody says so: told by its fields, and shown as far as every possible reading goes.

Whoever has a history knows which contract each payload is. Who is sent a payload alone does not, so everything that it
could be is considered, and a field is shown only where it may be seen in all of it.
"""

import importlib
import json
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

import domain.contracts
from domain.contracts.base import Contract
from domain.masking import MASK, masked
from domain.tokens import Role


def every_contract() -> tuple[type[Contract], ...]:
    """Return every contract of `domain/contracts`."""
    for found in pkgutil.iter_modules(domain.contracts.__path__, "domain.contracts."):
        importlib.import_module(found.name)
    return tuple(found for found in _below(Contract) if found.__module__.startswith("domain.contracts."))


def _below(contract: type[Contract]) -> Iterator[type[Contract]]:
    for found in contract.__subclasses__():
        yield found
        yield from _below(found)


class Recognition:
    """Reads documents of unknown contracts."""

    def __init__(self, contracts: Collection[type[Contract]]) -> None:
        """Take every contract that a document may be: one that is left out could be taken for another."""
        self._fields = {contract: frozenset(contract.model_fields) for contract in contracts}

    def readings(self, document: bytes) -> list[Contract]:
        """Return everything that a JSON document may be; nothing where it has a field that no such contract has.

        A contract only ever grows, so what a document was written as is among them, also where it is an old one.
        """
        try:
            found = json.loads(document)
        except ValueError:
            return []
        if not isinstance(found, dict):
            return []
        names = found.keys()
        return [
            reading
            for contract, fields in self._fields.items()
            if names <= fields and (reading := _read(contract, document)) is not None
        ]

    def shown(self, document: bytes, roles: Collection[Role]) -> Any:
        """Return what these roles see of a JSON document, as JSON has it; of one that is no contract, nothing."""
        readings = self.readings(document)
        if not readings:
            return MASK
        least: Any = masked(readings[0], roles)
        for reading in readings[1:]:
            least = _common(least, masked(reading, roles))
        return least


def _read(contract: type[Contract], document: bytes) -> Contract | None:
    try:
        return contract.model_validate_json(document)
    except ValidationError:  # its text quotes what is in it
        return None


def _common(one: Any, other: Any) -> Any:
    """Return what both show; what they show differently is masked."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {name: _common(value, other[name]) for name, value in one.items() if name in other}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [_common(*pair) for pair in zip(one, other, strict=True)]
    return one if type(one) is type(other) and one == other else MASK
