"""How an audit log lies in the object store: names, bundles of entries, and what a step of its growth is made of.

`logs/{log}/` has what C2SP tlog-tiles has under its prefix: `tile/...` and `tile/entries/...`. Tree heads are kept one
by one under `checkpoints/`, since nothing that is stored is ever replaced.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from domain.audit import CATALOGUE_LOG, ENTRY_MAX
from domain.checkpoints import verifier_key
from domain.merkle_tiles import TILE_WIDTH, number_path

CHECKPOINTS: Final = "checkpoints"
NEWEST: Final = "checkpoint"  # in a copy, which may be replaced: where C2SP tlog-tiles has the newest tree head
CHECKPOINT_ELEMENTS: Final = 4  # of three digits each: sizes sort as their names do, and a folder has few of them
_LENGTH_BYTES: Final = 2
_TURN: Final = timedelta(minutes=1)  # as often as a log is sealed
_FIRST_TURN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SIZE_PATH = re.compile(r"(x\d{3}/){3}\d{3}")


@dataclass(frozen=True, slots=True)
class LeafEntry:
    """An entry with its place: `leaf` is its canonical form now, `leaf_hash` what it was when it got its place.

    `leaf` is empty where the row is gone.
    """

    index: int
    entry_id: str
    kind: str
    leaf: bytes
    leaf_hash: bytes


def log_folder(log: str) -> str:
    """Return the folder of a log in the object store."""
    return f"logs/{log}"


def origin_of(environment: str, log: str) -> str:
    """Return how a log calls itself in its tree heads, and its key in their signatures."""
    return f"comitia/{environment}/{log}"


def verifier_keys(environment: str, cells: Iterable[str], public_keys: Iterable[bytes]) -> list[str]:
    """Return the keys of the logs of cells and of the catalogue, a line each, as tools for signed notes take them."""
    keys = tuple(public_keys)
    return [verifier_key(origin_of(environment, log), key) for log in (*cells, CATALOGUE_LOG) for key in keys]


def checkpoint_path(size: int) -> str:
    """Return where the tree head of a size is, inside a log's folder."""
    return f"{CHECKPOINTS}/{number_path(size, elements=CHECKPOINT_ELEMENTS)}"


def size_at(path: str) -> int | None:
    """Return the size that a path of a checkpoint (behind `checkpoints/`) names, or None where it is none."""
    return int(path.replace("/", "").replace("x", "")) if _SIZE_PATH.fullmatch(path) else None


def tile_in_turn(now: datetime, tiles: int, step: int) -> int:
    """Return the first tile of the piece of `step` tiles whose turn it is.

    Within as many minutes as there are pieces each has one, and nobody has to keep which was the last.
    """
    return (now - _FIRST_TURN) // _TURN % -(-tiles // step) * step


def bundle(leaves: Sequence[bytes]) -> bytes:
    """Return entries one after the other, each behind its length in two bytes, big-endian."""
    return b"".join(len(leaf).to_bytes(_LENGTH_BYTES, "big") + leaf for leaf in leaves)


def entries_of(content: bytes, most: int = TILE_WIDTH) -> list[bytes]:
    """Return the entries of a bundle, at most `most` of them.

    Raises:
        ValueError: this is no bundle; an entry is cut off, or there are more.
    """
    found, at = list[bytes](), 0
    while at < len(content):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(content[at:begin], "big")
        if begin > len(content) or at > len(content) or len(found) == most:
            raise ValueError(f"entry {len(found)} of the bundle cannot be read")
        found.append(content[begin:at])
    return found


assert ENTRY_MAX < 1 << 8 * _LENGTH_BYTES
