"""Passwords that others have used and lost: whoever tries passwords tries these first."""

from typing import Protocol


class BreachedPasswords(Protocol):
    """Knows which passwords were seen in breaches, without being told the password."""

    async def times_seen(self, password: str) -> int:
        """Return how often a password was seen in breaches; 0 for one that was not.

        Only the first 20 bits of its hash leave this process.

        Raises:
            DomainError: `breaches_unavailable` (retryable).
        """
        ...
