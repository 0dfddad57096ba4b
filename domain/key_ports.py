"""What the rotation of key-encryption keys needs besides the key management service."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from domain.contracts.surveys import SurveyKeys


class KeyEvent(StrEnum):
    """What happens to a version of a key."""

    MADE = "made"
    DESTROYED = "destroyed"


class CatalogueKeys(Protocol):
    """The wrapped keys of live surveys. All calls raise DomainError `catalogue_unavailable`."""

    def live(self) -> AsyncIterator[SurveyKeys]:
        """Return the wrapped keys of every survey that has some."""
        ...

    async def replace(self, before: SurveyKeys, after: SurveyKeys) -> bool:
        """Put another wrapping of the same keys in place; False where `before` is no longer what is there."""
        ...

    async def note(self, key_id: str, event: KeyEvent, actor: str = "") -> None:
        """Keep what happens to a key-encryption key, and write its audit entry. Safe to repeat.

        `actor` is whoever gave the command for it; without one it is done by itself.
        """
        ...

    async def publishing(self) -> int:
        """Return how many surveys are on their way into the cells, with their wrapped keys in their process."""
        ...


class CellKeys(Protocol):
    """The wrapped keys of one cell's copies. All calls raise DomainError `ledger_unavailable`."""

    async def replace(self, keys: SurveyKeys) -> bool:
        """Give an installed survey the wrapping that the catalogue has; False where it had it."""
        ...

    async def wrapped(self) -> Collection[bytes]:
        """Return every wrapped key of the cell."""
        ...


@dataclass(frozen=True, slots=True)
class PersonalKey:
    """The wrapped data key of one voter's personal data."""

    voter_id: str
    wrapped: bytes


class PersonalKeys(Protocol):
    """The wrapped personal keys of one cell's voters. All calls raise DomainError `directory_unavailable`."""

    async def under(self, key_id: str, after: str, limit: int) -> Sequence[PersonalKey]:
        """Return keys wrapped under a version, of voters behind `after` in the order of their ids."""
        ...

    async def replace(self, key_id: str, keys: Sequence[tuple[PersonalKey, bytes]]) -> int:
        """Put other wrappings, all under `key_id`, in the place of those given, and note it; return how many.

        One that is no longer there, or destroyed, is left alone.
        """
        ...

    async def uses(self, key_id: str) -> bool:
        """Tell whether any key is wrapped under a version."""
        ...
