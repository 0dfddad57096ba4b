"""Request ids: taken from the caller where well-formed, else made here."""

import re
import secrets
from collections.abc import Iterator
from typing import Final

_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_CHARACTERS: Final = 32  # 128 random bits
_MADE_AT_ONCE: Final = 256


class RequestIds:
    """Makes ids of one process, many at once, so that making one costs nothing.

    No number is in them: by one that rises a stranger could tell how many requests came between two of his own, and so
    how many people vote in a survey that says nothing of it.
    """

    def __init__(self) -> None:
        self._made: Iterator[str] = iter(())

    def accept(self, offered: bytes | None) -> str:
        """Return the offered id (8 to 64 of letters, digits, `.`, `_`, `-`), or a new one."""
        if offered is not None and _WELL_FORMED.fullmatch(offered):
            return offered.decode("ascii")
        for found in self._made:
            return found
        text = secrets.token_hex(_CHARACTERS // 2 * _MADE_AT_ONCE)
        self._made = iter([text[at : at + _CHARACTERS] for at in range(0, len(text), _CHARACTERS)])
        return next(self._made)
