"""What sealing and reading an audit log need from the outside."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from domain.audit_log import LeafEntry
from domain.contracts.exports import StoredObject


class AuditSequence(Protocol):
    """The entries of one log in the database that they were written in. All calls raise `audit_log_unavailable`."""

    async def sequence(self, most: int) -> tuple[int, bool]:
        """Give up to `most` entries the next places; return how many have one now, and whether there are more.

        No entry is passed over: those of transactions that are still open wait, and so does whatever began after them.
        Safe to repeat, and at once by many.
        """
        ...

    async def waited(self) -> timedelta:
        """Return for how long the next entry has been without a place; zero where none is."""
        ...

    async def entries(self, first: int, end: int) -> Sequence[LeafEntry]:
        """Return the entries from place `first` up to, not including, `end`; fewer where there are not so many."""
        ...

    async def passed_over(self, first: int, end: int) -> str:
        """Name an entry that has no place, and none to come, between those of these places; or nothing."""
        ...


class LockedObjects(Protocol):
    """Keeps files that nobody changes afterwards. All calls raise DomainError `objects_unavailable` (retryable)."""

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        """Store a file as a whole or not at all; of a name that is there already the first file stays."""
        ...

    def read(self, name: str) -> AsyncIterator[bytes]:
        """Return the pieces of a stored file."""
        ...

    async def require_lock(self) -> None:
        """See that files are locked as far as this store can. Raises LookupError where they are not."""
        ...

    async def names(self, folder: str) -> Sequence[str]:
        """Return the names directly in a folder, files and folders, sorted; none where there is no such folder."""
        ...


class LogSigner(Protocol):
    """Signs tree heads, and knows the keys that signed those of before."""

    async def sign(self, message: bytes) -> tuple[bytes, bytes]:
        """Return the public key (32 bytes) and its signature (64 bytes). Raises DomainError `key_unavailable`."""
        ...

    async def public_keys(self) -> Sequence[bytes]:
        """Return every key that may have signed a tree head. Raises DomainError `key_unavailable`."""
        ...

    def is_signed(self, message: bytes, signature: bytes, public_key: bytes) -> bool:
        """Tell whether this is the key's signature of the message."""
        ...


class SealingWatch(Protocol):
    """Hears how far logs are sealed, and what was found to contradict them."""

    def sealed(self, log_name: str, size: int) -> None:
        """A tree head of this size is signed and kept."""
        ...

    def waiting(self, log_name: str, age: timedelta) -> None:
        """Places were given, and the next entry has been without for this long; zero for none."""
        ...

    def contradicted(self, log_name: str, detail: str) -> None:
        """What a database or a store has is not what was signed."""
        ...


Sequences = Mapping[str, AuditSequence]
