"""Walks what contracts hold, and says what of it a role may not see."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from domain.field_classes import FIELD_CLASSES, FieldClass
from domain.tokens import Role

SEEN = {Role.SUPPORT: {FieldClass.PLAIN}, Role.COMPLIANCE: {FieldClass.PLAIN, FieldClass.PERSONAL}}


def values(value: Any) -> list[Any]:
    """Return what is in a field, one by one."""
    return list(value) if isinstance(value, tuple) else [value]


def texts(contract: BaseModel, seen: set[FieldClass], *, under: bool = False) -> Iterator[tuple[bool, str]]:
    """Return every text in a contract, and whether it is hidden from who sees these classes."""
    classes = FIELD_CLASSES[type(contract).__name__]
    for name in type(contract).model_fields:
        is_hidden = under or classes[name] not in seen
        for value in values(getattr(contract, name)):
            if isinstance(value, BaseModel):
                yield from texts(value, seen, under=is_hidden)
            elif isinstance(value, (bytes, str)):
                yield is_hidden, value.hex() if isinstance(value, bytes) else value


def own_texts(
    contract: BaseModel, seen: set[FieldClass], *, under: bool = False
) -> Iterator[tuple[str, bool, bool, str]]:
    """Return the field of every text in a contract, whether its own class hides it, whether it is read, and the text.

    What is plain and a part of something hidden is neither: a cell's name is no secret for being in a hidden batch.
    """
    kind = type(contract).__name__
    for name in type(contract).model_fields:
        is_hidden = FIELD_CLASSES[kind][name] not in seen
        for value in values(getattr(contract, name)):
            if isinstance(value, BaseModel):
                yield from own_texts(value, seen, under=under or is_hidden)
            elif isinstance(value, (bytes, str)) and value:
                text = value.hex() if isinstance(value, bytes) else value
                yield f"{kind}.{name}", is_hidden, not (under or is_hidden), text


def told_elsewhere(contracts: Iterable[BaseModel], role: Role) -> dict[str, set[str]]:
    """Return the fields whose hidden texts a role reads in other fields of these contracts, and those texts.

    A code may carry a value behind a colon. `staff_reasons` repeat what two fields of a finding say, and are masked for
    the sake of one: what the other shows is no secret in them.
    """
    found = [each for contract in contracts for each in own_texts(contract, SEEN[role])]
    read = {word for _, _, is_read, text in found if is_read for word in (text, *text.split(":"))}
    of_provider = {text for field, _, is_read, text in found if field == "CaseFinding.reasons" and is_read}
    told: dict[str, set[str]] = {}
    for field, is_hidden, _, text in found:
        if is_hidden and text in read and not (field.endswith(".staff_reasons") and text in of_provider):
            told.setdefault(field, set()).add(text)
    return told
