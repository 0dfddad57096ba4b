"""What staff may see of what histories and records keep: nothing that is not permitted to their role by name.

Choices, tokens, keys, names and document numbers are shown to nobody.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, Final

from domain.contracts.base import Contract
from domain.field_classes import FIELD_CLASSES, FieldClass
from domain.registration import MAIL_FIELD
from domain.tokens import Role

MASK: Final = "***"
PHONE_FIELD: Final = "phone"  # of a voter's personal data


class MaskedField(StrEnum):
    """What of a voter's personal data is shown masked, and so can be unmasked; the rest is shown to nobody."""

    MAIL = MAIL_FIELD
    PHONE = PHONE_FIELD


_SEEN: Final[Mapping[Role, frozenset[FieldClass]]] = {
    Role.SUPPORT: frozenset({FieldClass.PLAIN}),
    Role.COMPLIANCE: frozenset({FieldClass.PLAIN, FieldClass.PERSONAL}),
}
_SHOWN_MASKED: Final = frozenset({FieldClass.PERSONAL})  # the others are left out, name and all


def masked(contract: Contract, roles: Collection[Role]) -> dict[str, Any]:
    """Return a contract as JSON has it, each field shown, masked or left out by its class and these roles."""
    seen = frozenset[FieldClass]().union(*(_SEEN.get(role, frozenset()) for role in roles))
    return _masked(contract, seen)


def _masked(contract: Contract, seen: frozenset[FieldClass]) -> dict[str, Any]:
    classes = FIELD_CLASSES.get(type(contract).__name__, {})
    shown: dict[str, Any] = {}
    for name in type(contract).model_fields:
        kind = classes.get(name)
        if kind in seen:
            shown[name] = _json(getattr(contract, name), seen)
        elif kind in _SHOWN_MASKED and FieldClass.PLAIN in seen:
            shown[name] = MASK
    return shown


def _json(value: Any, seen: frozenset[FieldClass]) -> Any:
    if isinstance(value, Contract):
        return _masked(value, seen)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_json(each, seen) for each in value]
    return value if value is None or isinstance(value, (str, int, float)) else MASK


def masked_mail(address: str) -> str:
    """Return a mail address with the first letters and the end of its domain: `a***@d***.org`."""
    local, at, host = address.rpartition("@")
    first, dot, _ = host.partition(".")
    if not (local and at and first and dot):
        return MASK
    return f"{local[0]}{MASK}@{first[0]}{MASK}.{host.rpartition('.')[2]}"


def masked_phone(number: str) -> str:
    """Return the last two digits of a telephone number: `+***78`; of a short one nothing."""
    digits = [character for character in number if character.isdigit()]
    return f"+{MASK}{''.join(digits[-2:])}" if len(digits) > 6 else MASK  # noqa: PLR2004 - E.164 has seven at least


def masked_contact(data: Mapping[str, str]) -> dict[str, str]:
    """Return what staff see of a voter's personal data: how they are reached, masked; whatever else there is, not."""
    shown = {MaskedField.MAIL: masked_mail, MaskedField.PHONE: masked_phone}
    return {name.value: mask(data[name]) for name, mask in shown.items() if data.get(name)}
