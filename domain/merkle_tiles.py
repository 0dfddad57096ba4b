"""A Merkle tree kept as tiles of 256 hashes, in the layout of C2SP tlog-tiles: files that are written once.

Level 0 has the hashes of leaves; each hash of a higher level is the root over one full tile of the level below. What
is right of the last full tile of a level is a partial tile, and is never hashed into the level above.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from domain.merkle import EMPTY_ROOT, node_hash

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
HASH_BYTES = 32
_DIGITS = 1000  # of one element of a path


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A place in the layout: its level, its index in that, and how many hashes it has (1 to 256)."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Where its hashes are: `tile/0/x001/x234/067`, with `.p/12` behind it where it is partial."""
        return f"tile/{self.level}/{number_path(self.index)}{self._suffix}"

    @property
    def entries_path(self) -> str:
        """Where the entries under a tile of level 0 are."""
        return f"tile/entries/{number_path(self.index)}{self._suffix}"

    @property
    def whole(self) -> "Tile":
        """The full tile that this one is, or is the beginning of."""
        return Tile(self.level, self.index)

    @property
    def _suffix(self) -> str:
        return "" if self.width == TILE_WIDTH else f".p/{self.width}"


def number_path(number: int, *, elements: int = 1) -> str:
    """Return a number in elements of three digits, all but the last behind an `x`; `elements` are the fewest."""
    path = f"{number % _DIGITS:03d}"
    rest, made = number // _DIGITS, 1
    while rest or made < elements:
        path = f"x{rest % _DIGITS:03d}/{path}"
        rest, made = rest // _DIGITS, made + 1
    return path


def tile_of(level: int, position: int, size: int) -> Tile:
    """Return the tile that has a level's hash at `position`, as wide as a tree of `size` leaves makes it."""
    index = position // TILE_WIDTH
    return Tile(level, index, min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH))


def right_edge(size: int) -> tuple[Tile, ...]:
    """Return the partial tiles of a tree of `size` leaves, the lowest level first; a level may have none."""
    edge, level = list[Tile](), 0
    while hashes := size >> TILE_HEIGHT * level:
        if width := hashes % TILE_WIDTH:
            edge.append(Tile(level, hashes // TILE_WIDTH, width))
        level += 1
    return tuple(edge)


def split(content: bytes) -> list[bytes]:
    """Return the hashes of a tile."""
    return [content[at : at + HASH_BYTES] for at in range(0, len(content), HASH_BYTES)]


def perfect_root(hashes: list[bytes]) -> bytes:
    """Return the root over as many hashes as some power of two says."""
    while len(hashes) > 1:
        hashes = [
            sha256(b"\x01" + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]


class GrowingTiles:
    """A tree that only its right edge is held of; what is complete is handed out once, to be kept elsewhere."""

    def __init__(self, size: int = 0, edge: Mapping[Tile, bytes] | None = None) -> None:
        """Go on where a tree of `size` leaves stopped: `edge` has the content of each of its `right_edge` tiles.

        Raises:
            ValueError: these are not the partial tiles of a tree of this size.
        """
        self.size = size
        self._levels: list[list[bytes]] = []
        given = dict(edge or {})
        for tile in right_edge(size):
            content = given.pop(tile, b"")
            if len(content) != tile.width * HASH_BYTES:
                raise ValueError(f"no content of {tile.path}")
            self._level(tile.level).extend(split(content))
        if given:
            raise ValueError("a tile that is none of this tree's edge")
        self._complete: list[tuple[Tile, bytes]] = []

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add the hashes of leaves (32 bytes each), in order."""
        lowest = self._level(0)
        for leaf in leaves:
            lowest.append(leaf)
            self.size += 1
            if len(lowest) == TILE_WIDTH:
                self._roll_up()

    def take_complete(self) -> list[tuple[Tile, bytes]]:
        """Return the full tiles since the last call, each before the tile that it is hashed into."""
        taken, self._complete = self._complete, []
        return taken

    def partial(self) -> list[tuple[Tile, bytes]]:
        """Return the partial tiles of the tree as it is now."""
        return [(tile, b"".join(self._levels[tile.level])) for tile in right_edge(self.size)]

    def root(self) -> bytes:
        """Return the tree hash (32 bytes) over what was added so far."""
        node: bytes | None = None
        for level in self._levels:  # the smallest subtree is the rightmost: folded from there
            end = len(level)
            while end:
                width = end & -end
                subtree = perfect_root(level[end - width : end])
                node = subtree if node is None else node_hash(subtree, node)
                end -= width
        return EMPTY_ROOT if node is None else node

    def _roll_up(self) -> None:
        level = 0
        while len(self._level(level)) == TILE_WIDTH:
            hashes = self._levels[level]
            index = (self.size >> TILE_HEIGHT * (level + 1)) - 1
            self._complete.append((Tile(level, index), b"".join(hashes)))
            self._level(level + 1).append(perfect_root(hashes))
            hashes.clear()
            level += 1

    def _level(self, level: int) -> list[bytes]:
        while len(self._levels) <= level:
            self._levels.append([])
        return self._levels[level]
