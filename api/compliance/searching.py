"""Finds entries of audit logs by what they say, and shows them as they are sealed."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from activities.log_reading import LogReading, contradicted
from domain.errors import DomainError, ErrorCode
from domain.log_search import EntrySearch, IndexedEntry, Sought, indexed
from domain.merkle_tiles import TILE_WIDTH


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry as it is sealed, and its place."""

    index: int
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Entries, the newest first; `size` is up to which place everything is found, `before` where the list goes on."""

    entries: Sequence[FoundEntry]
    size: int
    before: int | None = None


class SearchDesk:
    """Searches the logs of every cell and of the catalogue.

    Places come from a database, entries from the log: an entry that does not say what it was found by is a fault.
    """

    def __init__(self, searches: Mapping[str, EntrySearch], readings: Mapping[str, LogReading]) -> None:
        """Both are by log."""
        self._searches = searches
        self._readings = readings

    @property
    def logs(self) -> Sequence[str]:
        """The logs that there are."""
        return sorted(self._searches)

    async def find(self, log: str, sought: Sought, before: int | None, limit: int) -> FoundPage:
        """Return the newest entries before a place, or of all.

        Raises:
            DomainError: `not_found`; `audit_log_unavailable`, `objects_unavailable`, `key_unavailable`;
                `audit_log_contradicted`.
        """
        search, reading = self._searches.get(log), self._readings.get(log)
        if search is None or reading is None:
            raise DomainError(ErrorCode.NOT_FOUND, "no such log")
        size = await search.size()
        head = await reading.newest()  # behind the search, or further
        if head is None:
            return FoundPage((), 0)
        size = min(size, head.size)
        found = await search.find(sought, size if before is None else min(before, size), limit + 1)
        page = found[:limit]
        tiles = sorted({entry.index // TILE_WIDTH for entry in page})
        read = await asyncio.gather(*(reading.entries(tile, head.size) for tile in tiles))
        sealed = dict(zip(tiles, read, strict=True))
        return FoundPage(
            [_shown(entry, sealed[entry.index // TILE_WIDTH][entry.index % TILE_WIDTH]) for entry in page],
            size,
            page[-1].index if len(found) > limit else None,
        )


def _shown(found: IndexedEntry, leaf: bytes) -> FoundEntry:
    if indexed(found.index, leaf) != found:
        raise contradicted(f"the search says of entry {found.index} what it does not say: make it anew")
    return FoundEntry(found.index, json.loads(leaf))
