"""Reads a sealed log from the object store: its newest tree head, its tiles, and the proofs that follow from them.

The store has only what was written once. Nothing here asks a database.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256

from domain.audit_log import CHECKPOINT_ELEMENTS, CHECKPOINTS, checkpoint_path, entries_of, log_folder, size_at
from domain.audit_ports import LockedObjects, LogSigner
from domain.checkpoints import Checkpoint, NoCheckpointError, key_id, open_checkpoint
from domain.errors import DomainError, ErrorCode
from domain.log_proofs import EntryProof, ProvedEntry
from domain.merkle import leaf_hash
from domain.merkle_proofs import Span, consistency_spans, hash_of, includes, inclusion_spans, tiles_under
from domain.merkle_tiles import TILE_WIDTH, GrowingTiles, Tile, number_path, right_edge, split, tile_of
from domain.pieces import joined, one_piece


class LogReading:
    """One log in the object store. Calls raise DomainError `objects_unavailable`, or `audit_log_contradicted`."""

    def __init__(self, objects: LockedObjects, signer: LogSigner, log: str, origin: str) -> None:
        self._objects = objects
        self._signer = signer
        self._folder = log_folder(log)
        self.origin = origin

    async def is_reachable(self) -> bool:
        """Tell whether the store answers; a log of which nothing is sealed yet is there, too."""
        await self._objects.names(self._folder)
        return True

    async def newest(self) -> Checkpoint | None:
        """Return the newest tree head, its signature checked; None where nothing is signed yet.

        It is looked for in the store and nowhere else, so that who forgets it in a database hides nothing.
        """
        path = ""
        for _ in range(CHECKPOINT_ELEMENTS):
            names = await self._objects.names(f"{self._folder}/{CHECKPOINTS}{path}")
            if not names:
                return None
            path = f"{path}/{names[-1]}"
        size = size_at(path.lstrip("/"))
        if size is None:
            raise contradicted(f"{path.lstrip('/')} is no tree head")
        return await self.checkpoint(size)

    async def note(self, size: int) -> bytes:
        """Return a tree head as it is kept, a signed note."""
        return await self._read(checkpoint_path(size))

    async def has_head(self, size: int) -> bool:
        """Tell whether there is a tree head of a size."""
        folder, _, name = checkpoint_path(size).rpartition("/")
        return name in await self._objects.names(f"{self._folder}/{folder}")

    async def checkpoint(self, size: int) -> Checkpoint:
        """Return the tree head of a size, its signature checked."""
        note = await self.note(size)
        keys = {(self.origin, key_id(self.origin, key)): key for key in await self._signer.public_keys()}
        try:
            found = open_checkpoint(note, keys, self._signer.is_signed)
        except NoCheckpointError as error:
            raise contradicted(f"the tree head of {size}: {error}") from error
        if (found.origin, found.size) != (self.origin, size):
            raise contradicted(f"the tree head of {size} is of another log or size")
        return found

    async def first_over(self, index: int) -> Checkpoint | None:
        """Return the first tree head that entry `index` is under; None where it is not sealed yet.

        It stays the same for good, so that whoever proves an entry by it always writes the same proof.
        """
        path = await self._first("", number_path(index + 1, elements=CHECKPOINT_ELEMENTS).split("/"), is_bound=True)
        size = None if path is None else size_at(path.lstrip("/"))
        return None if size is None else await self.checkpoint(size)

    async def _first(self, path: str, least: Sequence[str], *, is_bound: bool) -> str | None:
        """Return the first checkpoint inside a folder; where it is bound, not before the one that `least` names."""
        for name in await self._objects.names(f"{self._folder}/{CHECKPOINTS}{path}"):
            if is_bound and name < least[0]:
                continue
            inside = f"{path}/{name}"
            if len(least) == 1:
                return inside
            found = await self._first(inside, least[1:], is_bound=is_bound and name == least[0])
            if found is not None:
                return found
        return None

    async def prove(self, index: int, head: Checkpoint) -> ProvedEntry:
        """Return an entry that is under a tree head of this log, with the proof of it."""
        hashes = await self.inclusion(index, head.size)
        proof = EntryProof(index, tuple(hashes), await self.note(head.size))
        entry = await self.entry(index, head.size)
        if not includes(leaf_hash(entry), index, head.size, hashes, head.root):
            raise contradicted(f"entry {index} is not under the tree head")
        return ProvedEntry(entry, head, proof)

    async def tiles(self, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        """Return tiles by their place, all fetched at once."""
        contents = await asyncio.gather(*(self._read(tile.path) for tile in wanted))
        return dict(zip(wanted, contents, strict=True))

    async def growing(self, size: int) -> GrowingTiles:
        """Return the tree of a size, to go on from there."""
        try:
            return GrowingTiles(size, await self.tiles(right_edge(size)))
        except ValueError as error:
            raise contradicted(f"the tiles of {size} are cut short") from error

    async def root(self, size: int) -> bytes:
        """Return the root over the first `size` entries, as the tiles have them."""
        return (await self.growing(size)).root() if size else GrowingTiles().root()

    async def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that entry `index` is in the tree of `size` entries. Raises ValueError: it is not."""
        return await self._proof(inclusion_spans(index, size), size)

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of `new` entries continues that of `old`. Raises ValueError: it cannot."""
        return await self._proof(consistency_spans(old, new), new)

    async def leaf_hashes(self, index: int, size: int) -> list[bytes]:
        """Return the hashes of the entries of one tile of level 0, in a tree of `size` entries."""
        tile = tile_of(0, index * TILE_WIDTH, size)
        return split((await self.tiles([tile]))[tile])

    async def entries(self, index: int, size: int) -> list[bytes]:
        """Return the entries of one tile of level 0, in a tree of `size` entries, each as its hash there says."""
        tile = tile_of(0, index * TILE_WIDTH, size)
        hashes = await self.leaf_hashes(index, size)
        try:
            found = entries_of(await self._read(tile.entries_path))
        except ValueError as error:
            raise contradicted(f"the entries of tile {index} cannot be read") from error
        if [leaf_hash(entry) for entry in found] != hashes:
            raise contradicted(f"the entries of tile {index} are not those of its hashes")
        return found

    async def entry(self, index: int, size: int) -> bytes:
        """Return an entry of a tree of `size` entries, in its canonical form."""
        tile = tile_of(0, index, size)
        try:
            return entries_of(await self._read(tile.entries_path))[index - tile.index * TILE_WIDTH]
        except (ValueError, IndexError) as error:
            raise contradicted(f"entry {index} cannot be read") from error

    async def _proof(self, spans: Sequence[Span], size: int) -> list[bytes]:
        tiles = await self.tiles(tiles_under(spans, size))
        return [hash_of(span, size, tiles) for span in spans]

    async def _read(self, path: str) -> bytes:
        return await joined(self._objects.read(f"{self._folder}/{path}"))


async def keep(objects: LockedObjects, files: Iterable[tuple[str, bytes]]) -> None:
    """Store files, all at once; one that is there already has to be the same.

    Raises:
        DomainError: `objects_unavailable`; `audit_log_contradicted` where another file has the name.
    """

    async def keep_one(name: str, content: bytes) -> None:
        stored = await objects.put(name, one_piece(content))
        if stored.sha256 != sha256(content).digest():
            raise contradicted(f"{name} is kept already, and is another")

    await asyncio.gather(*(keep_one(name, content) for name, content in files))


def contradicted(detail: str) -> DomainError:
    """Return the fault that a log is not what was signed; `detail` names what differs."""
    return DomainError(ErrorCode.AUDIT_LOG_CONTRADICTED, detail)
