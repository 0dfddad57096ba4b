"""Audit logs made by hand: entries, tiles and tree heads, as the sealing writes them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from nacl.signing import SigningKey

from domain.audit import canonical_entry
from domain.audit_log import bundle, checkpoint_path
from domain.checkpoints import Checkpoint, key_id, signed_note, verifier_key
from domain.merkle import leaf_hash
from domain.merkle_tiles import TILE_WIDTH, GrowingTiles, Tile

ORIGIN = "comitia/test/eu"
KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
KEYS = {(ORIGIN, key_id(ORIGIN, PUBLIC)): PUBLIC}
VERIFIER_KEY = verifier_key(ORIGIN, PUBLIC)
_BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


def leaf(number: int, kind: str = "votes.recorded") -> bytes:
    """Return an entry that is like no other."""
    body = {"batch": f"{number:032x}-1", "participations": number % 7}
    return canonical_entry(str(UUID(int=number)), _BEGAN + timedelta(seconds=number), kind, body)


def tree_head(tree: GrowingTiles, key: SigningKey = KEY, origin: str = ORIGIN) -> tuple[str, bytes]:
    """Return the path and the note of a tree as it is."""
    text = Checkpoint(origin, tree.size, tree.root()).text
    note = signed_note(text, origin, bytes(key.verify_key), key.sign(text).signature)
    return checkpoint_path(tree.size), note


def sealed_files(leaves: list[bytes], sizes: Iterable[int]) -> dict[str, bytes]:
    """Return the files of a log that was sealed at each of these sizes, by their paths."""
    tree, files = GrowingTiles(), dict[str, bytes]()
    for size in sizes:
        first = tree.size // TILE_WIDTH * TILE_WIDTH
        tree.extend(map(leaf_hash, leaves[tree.size : size]))
        files |= {tile.path: content for tile, content in tree.take_complete() + tree.partial()}
        for at in range(first, size, TILE_WIDTH):
            part = leaves[at : min(at + TILE_WIDTH, size)]
            files[Tile(0, at // TILE_WIDTH, len(part)).entries_path] = bundle(part)
        files.update([tree_head(tree)])
    return files


class Files:
    """Implements `LogFiles` in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def read(self, path: str) -> bytes | None:
        """Return a file, or None."""
        return self.files.get(path)

    def names(self, folder: str) -> list[str]:
        """Return what is directly in a folder."""
        inside = f"{folder}/"
        return sorted({path.removeprefix(inside).partition("/")[0] for path in self.files if path.startswith(inside)})
