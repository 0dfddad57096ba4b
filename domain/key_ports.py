"""What the rotation of key-encryption keys needs besides the key management service."""

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from domain.contracts.surveys import SurveyKeys


class CatalogueKeys(Protocol):
    """The wrapped keys of live surveys. All calls raise DomainError `catalogue_unavailable`."""

    def live(self) -> AsyncIterator[SurveyKeys]:
        """Return the wrapped keys of every survey that has some."""
        ...

    async def replace(self, before: SurveyKeys, after: SurveyKeys) -> bool:
        """Put another wrapping of the same keys in place; False where `before` is no longer what is there."""
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
