"""Proofs over a tiled tree: that an entry is in it, and that a later tree is a continuation of an earlier one.

A proof is a list of tree hashes over ranges of leaves. Which ranges is arithmetic; which tiles they are computed from
follows, so that whoever has the tiles somewhere fetches those few and nothing else. Source: RFC 9162, section 2.1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from domain.merkle import node_hash
from domain.merkle_tiles import HASH_BYTES, TILE_HEIGHT, Tile, perfect_root, split, tile_of


@dataclass(frozen=True, slots=True)
class Span:
    """The leaves from `start` up to, not including, `end`, as the tree splits them: `start` fits the width."""

    start: int
    end: int


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Return what an inclusion proof consists of, from the leaf up. Source: section 2.1.3.1.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    spans, start, end = list[Span](), 0, size
    while end - start > 1:
        middle = start + _left_width(end - start)
        if index < middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
    return spans[::-1]


def consistency_spans(old: int, new: int) -> list[Span]:
    """Return what a consistency proof consists of; nothing where one tree is empty or both are one. Section 2.1.4.1.

    Raises:
        ValueError: the second tree is smaller.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} does not continue one of {old}")
    if old in {0, new}:
        return []
    spans, start, end = list[Span](), 0, new
    while end != old:
        middle = start + _left_width(end - start)
        if old <= middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
    if start:
        spans.append(Span(start, end))
    return spans[::-1]


def tiles_under(spans: Iterable[Span], size: int) -> set[Tile]:
    """Return the tiles of a tree of `size` leaves that the hashes of these spans are computed from."""
    return {_place(height, index, size)[0] for span in spans for height, index in _subtrees(span)}


def hash_of(span: Span, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    """Return the tree hash over a span. Raises KeyError where one of `tiles_under` is not there."""
    nodes = []
    for height, index in _subtrees(span):
        tile, first, width = _place(height, index, size)
        nodes.append(perfect_root(split(tiles[tile][first * HASH_BYTES : (first + width) * HASH_BYTES])))
    return reduce(lambda right, left: node_hash(left, right), reversed(nodes))


def root_of(size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    """Return the tree hash over all leaves (at least one) from the tiles under `Span(0, size)`."""
    return hash_of(Span(0, size), size, tiles)


def inclusion_path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the inclusion proof of one leaf of a small tree, from the hashes of all of them. Source: section 2.1.3.1.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise ValueError(f"no leaf {index} in a tree of {len(hashes)}")
    path, level, place = list[bytes](), list(hashes), index
    while len(level) > 1:
        if (place ^ 1) < len(level):
            path.append(level[place ^ 1])
        paired = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]  # an odd last node goes up as it is
        place >>= 1
    return path


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether a leaf (its hash) is at `index` of the tree of `size` leaves with this root. Section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    place, last, node = index, size - 1, leaf
    for sibling in proof:
        if not last:
            return False
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    return not last and node == root


def continues(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether the tree of `new` leaves begins with that of `old` leaves. Source: section 2.1.4.2.

    Every tree continues itself and the empty one, by an empty proof.
    """
    if old in {0, new}:
        return not proof and (old == 0 or old_root == new_root)
    path = list(proof)
    if not 0 < old < new or not path:
        return False
    if not old & old - 1:  # the earlier tree is one subtree of the later one: its root is where the path begins
        path.insert(0, old_root)
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    earlier = later = path[0]
    for sibling in path[1:]:
        if not last:
            return False
        if place & 1 or place == last:
            earlier, later = node_hash(sibling, earlier), node_hash(sibling, later)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            later = node_hash(later, sibling)
        place, last = place >> 1, last >> 1
    return not last and earlier == old_root and later == new_root


def _left_width(width: int) -> int:
    """The largest power of two below a width of 2 or more."""
    return 1 << (width - 1).bit_length() - 1


def _subtrees(span: Span) -> list[tuple[int, int]]:
    """The perfect subtrees of a span, left to right, each by its height and its index among those of that height."""
    found, start = list[tuple[int, int]](), span.start
    while start < span.end:
        height = (span.end - start).bit_length() - 1
        found.append((height, start >> height))
        start += 1 << height
    return found


def _place(height: int, index: int, size: int) -> tuple[Tile, int, int]:
    """The tile that has the hashes under a perfect subtree, where they begin in it, and how many they are."""
    level, inside = divmod(height, TILE_HEIGHT)
    position, width = index << inside, 1 << inside
    tile = tile_of(level, position, size)
    return tile, position - tile.index * (1 << TILE_HEIGHT), width
