"""Keeps the search of an audit log: behind what is sealed, out of that alone, and anew when somebody asks."""

from dataclasses import dataclass

from activities.log_reading import LogReading, contradicted
from domain.log_search import IndexedEntry, SearchIndex, indexed
from domain.merkle_tiles import TILE_WIDTH


@dataclass(frozen=True, slots=True)
class Compared:
    """A search beside its log: how many entries that has, how many places differ, and the first of them."""

    size: int
    differ: int
    first: str


class LogIndexing:
    """Indexes one log. Calls raise DomainError `audit_log_unavailable`, and what `LogReading` raises."""

    def __init__(self, reading: LogReading, index: SearchIndex) -> None:
        self._reading = reading
        self._index = index

    async def follow(self) -> int:
        """Take up what was sealed since; return up to which place everything is found.

        Safe to repeat, and at once by many.
        """
        done, head = await self._index.size(), await self._reading.newest()
        while head is not None and done < head.size:
            tile = done // TILE_WIDTH
            end, found = await self._sealed(tile, head.size)
            done = await self._index.extend(done, end, [entry for entry in found if entry.index >= done])
        return done

    async def compare(self, *, repair: bool) -> Compared:
        """Compare the search with its log as far as it says that it is complete.

        To be repaired, it says what the log says afterwards, of every entry that was sealed when this began.
        """
        reach, head = await self._index.reach(), await self._reading.newest()
        size = 0 if head is None else head.size
        differ, first = max(0, reach - size), f"place {size} is none of the log" if reach > size else ""
        upto = size if repair else min(size, await self._index.size())
        for tile in range(-(-upto // TILE_WIDTH)):
            behind, sealed = await self._sealed(tile, size)
            begin, end = tile * TILE_WIDTH, min(behind, upto)
            told = [entry for entry in sealed if entry.index < end]
            if places := sorted({entry.index for entry in {*told} ^ {*await self._index.between(begin, end)}}):
                first, differ = first or f"entry {places[0]}", differ + len(places)
                if repair:
                    await self._index.replace(begin, end, told)
        if repair:
            await self._index.end(size)
        return Compared(size, differ, first)

    async def _sealed(self, tile: int, size: int) -> tuple[int, list[IndexedEntry]]:
        """Return the place behind a tile, and what is to be found in it."""
        leaves, first = await self._reading.entries(tile, size), tile * TILE_WIDTH
        try:
            found = [indexed(index, leaf) for index, leaf in enumerate(leaves, start=first)]
        except ValueError as error:
            raise contradicted(str(error)) from error
        return first + len(leaves), [entry for entry in found if entry is not None]
