"""Walks what contracts hold, and says what of it a role may not see."""

from collections.abc import Iterator
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
