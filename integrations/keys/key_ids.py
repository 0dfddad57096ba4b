"""Key ids such as `in-flight/eu/2026-11-23/1`: the purpose, the day on which the key was made (UTC), and a number."""

import re
from datetime import date

from domain.errors import DomainError, ErrorCode

PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,31}(?:/[a-z][a-z0-9-]{0,31}){0,3}")
_KEY_ID = re.compile(rf"(?P<purpose>{PURPOSE.pattern})/(?P<date>\d{{4}}-\d{{2}}-\d{{2}})/(?P<number>[1-9]\d{{0,5}})")


def parse_key_id(key_id: str) -> tuple[str, date, int]:
    """Return purpose, date and number of a key id.

    Raises:
        DomainError: `key_unavailable`; this is no key id.
    """
    found = _KEY_ID.fullmatch(key_id)
    if found is None:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, "not a key id")
    try:
        return found["purpose"], date.fromisoformat(found["date"]), int(found["number"])
    except ValueError as error:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, "not a key id") from error


def is_key_of(text: str, purpose: str) -> bool:
    """Tell whether this is the id of a key of a purpose, and of none under it."""
    try:
        return parse_key_id(text)[0] == purpose
    except DomainError:
        return False
