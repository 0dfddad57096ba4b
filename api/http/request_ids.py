"""Request ids: taken from the caller where well-formed, else made here."""

import re
import secrets
from itertools import count
from typing import Final

_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class RequestIds:
    """Makes ids of one process: 64 random bits chosen at start, then a number, so that making one costs nothing."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._numbers = count(1)

    def accept(self, offered: bytes | None) -> str:
        """Return the offered id (8 to 64 of letters, digits, `.`, `_`, `-`), or a new one."""
        if offered is not None and _WELL_FORMED.fullmatch(offered):
            return offered.decode("ascii")
        return f"{self._prefix}-{next(self._numbers):x}"
