"""How many logins wait for identity providers at once, so that one that hangs holds up nobody else's."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Final

from domain.errors import DomainError, ErrorCode

# Of the 24 places for logins of a process (`api/auth/login_room.py`): a provider that takes a quarter of a second lets
# 32 logins a second through, which is more than a process works on. One that hangs leaves a third of the places to the
# other providers, and all that hang leave a third to whoever comes without one.
AT_ONE: Final = 8
AT_ALL: Final = 16
_RETRY_AFTER_S: Final = (4, 5, 6)  # in turns: those who are refused together do not come back together


class Exchanges:
    """The exchanges of one process with its providers."""

    def __init__(self, *, at_one: int = AT_ONE, at_all: int = AT_ALL) -> None:
        self._at_one = at_one
        self._at_all = at_all
        self._waiting: Counter[str] = Counter()
        self._retry_after_s = cycle(_RETRY_AFTER_S)

    @contextmanager
    def place(self, provider: str) -> Iterator[None]:
        """Have a place within the block, at once or not at all.

        Raises:
            DomainError: `identity_provider_unavailable` where as many wait for this provider, or for all of them.
        """
        if self._waiting[provider] >= self._at_one or self._waiting.total() >= self._at_all:
            raise DomainError(
                ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE,
                "many wait for it already",
                retry_after_s=next(self._retry_after_s),
            )
        self._waiting[provider] += 1
        try:
            yield
        finally:
            self._waiting[provider] -= 1
