"""Audit entries of what staff ask for: once for each key, or each time."""

from typing import Protocol

from domain.audit import AuditEntry


class NotedEntries(Protocol):
    """The entries of one cell that are written once. Calls raise DomainError `directory_unavailable`."""

    async def note(self, key: str, entry: AuditEntry) -> str:
        """Write an entry, and return its outcome; of a key that has one already, that one's, and nothing is written.

        Safe to repeat, and at once by many.

        Raises:
            DomainError: `idempotency_key_used`; the entry of this key differs in more than its outcome.
        """
        ...


class EachTimeEntries(Protocol):
    """The entries of one cell of what happens each time that it is asked."""

    async def write(self, entry: AuditEntry) -> None:
        """Write an entry; repeated, it is written again. Raises DomainError `directory_unavailable`."""
        ...


class StaffEntries(NotedEntries, Protocol):
    """What staff ask of processes in one cell. Calls raise DomainError `directory_unavailable`."""

    async def outcome_of(self, key: str) -> str | None:
        """Return the outcome of the entry of a key, or None."""
        ...
