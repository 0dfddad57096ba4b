"""Trees in tiles, and proofs from them, against the definitions of RFC 9162 written out plainly."""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.merkle import EMPTY_ROOT, leaf_hash, node_hash
from domain.merkle_proofs import (
    consistency_spans,
    continues,
    hash_of,
    includes,
    inclusion_path,
    inclusion_spans,
    root_of,
    tiles_under,
)
from domain.merkle_tiles import GrowingTiles, Tile, number_path, perfect_root, right_edge

# The entries that implementations of Certificate Transparency are tested with, and the roots over the first n of them.
KNOWN = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
KNOWN.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEAVES = [leaf_hash(n.to_bytes(3, "big")) for n in range(70_000)]
# about the ends of tiles of levels 0 and 1, and of perfect trees
SIZES = st.one_of(
    st.integers(1, 600), st.sampled_from([255, 256, 257, 511, 512, 4096, 65_535, 65_536, 65_537, 66_000, 70_000])
)


@cache
def plain_root(start: int, end: int) -> bytes:
    """The definition: split at the largest power of two below the size."""
    if end - start == 1:
        return LEAVES[start]
    middle = start + (1 << (end - start - 1).bit_length() - 1)
    return node_hash(plain_root(start, middle), plain_root(middle, end))


def plain_inclusion(index: int, start: int, end: int) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + (1 << (end - start - 1).bit_length() - 1)
    if index < middle:
        return [*plain_inclusion(index, start, middle), plain_root(middle, end)]
    return [*plain_inclusion(index, middle, end), plain_root(start, middle)]


def plain_consistency(old: int, start: int, end: int, *, is_whole: bool = True) -> list[bytes]:
    if old == end:
        return [] if is_whole else [plain_root(start, end)]
    middle = start + (1 << (end - start - 1).bit_length() - 1)
    if old <= middle:
        return [*plain_consistency(old, start, middle, is_whole=is_whole), plain_root(middle, end)]
    return [*plain_consistency(old, middle, end, is_whole=False), plain_root(start, middle)]


@cache
def grown(size: int) -> tuple[bytes, Mapping[Tile, bytes]]:
    """Return the root and the tiles of a tree."""
    tree = GrowingTiles()
    tree.extend(LEAVES[:size])
    return tree.root(), MappingProxyType(dict(tree.take_complete() + tree.partial()))


def test_roots_are_those_that_everybody_has() -> None:
    assert GrowingTiles().root() == EMPTY_ROOT == sha256(b"").digest()
    for size, root in enumerate(ROOTS, start=1):
        tree = GrowingTiles()
        tree.extend(map(leaf_hash, KNOWN[:size]))
        assert tree.root().hex() == root


def test_known_proofs_are_made() -> None:
    tree = GrowingTiles()
    tree.extend(map(leaf_hash, KNOWN))
    tiles = dict(tree.partial())
    proof = [hash_of(span, 8, tiles).hex() for span in inclusion_spans(5, 8)]
    assert proof == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [hash_of(span, 8, tiles).hex() for span in consistency_spans(6, 8)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_the_layout_is_that_of_the_specification() -> None:
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(2, 0, 1).path == "tile/2/000.p/1"
    assert Tile(0, 999, 112).entries_path == "tile/entries/999.p/112"
    assert number_path(7, elements=4) == "x000/x000/x000/007"
    # a tree of 70,000 entries, as its text describes it
    _, tiles = grown(70_000)
    assert sorted(tiles) == [
        *(Tile(0, n) for n in range(273)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert right_edge(256) == (Tile(1, 0, 1),)
    assert right_edge(0) == ()


@settings(max_examples=60, deadline=None)
@given(SIZES, st.data())
def test_proofs_from_tiles_are_those_of_the_definition_and_hold(size: int, data: st.DataObject) -> None:
    root, tiles = grown(size)
    assert root == plain_root(0, size) == root_of(size, tiles)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    inclusion, consistency = inclusion_spans(index, size), consistency_spans(old, size)
    assert tiles_under([*inclusion, *consistency], size) <= tiles.keys()
    path = [hash_of(span, size, tiles) for span in inclusion]
    proof = [hash_of(span, size, tiles) for span in consistency]
    assert path == plain_inclusion(index, 0, size)
    assert proof == plain_consistency(old, 0, size)
    old_root = plain_root(0, old)
    assert includes(LEAVES[index], index, size, path, root)
    assert continues(old, old_root, size, root, proof)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 600), st.data())
def test_a_proof_that_anything_was_done_to_does_not_hold(size: int, data: st.DataObject) -> None:
    _, tiles = grown(size)
    root, index, old = root_of(size, tiles), data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size - 1))
    path = [hash_of(span, size, tiles) for span in inclusion_spans(index, size)]
    proof = [hash_of(span, size, tiles) for span in consistency_spans(old, size)]
    old_root = plain_root(0, old)
    at, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
    flipped = (int.from_bytes(path[at], "big") ^ 1 << bit).to_bytes(32, "big")
    assert not includes(LEAVES[index], index, size, [*path[:at], flipped, *path[at + 1 :]], root)
    assert not includes(LEAVES[index], index, size, path[:-1], root)
    assert not includes(LEAVES[index], index, size, [*path, path[0]], root)
    assert not includes(LEAVES[-1], index, size, path, root)
    assert not includes(LEAVES[index], size, size, path, root)
    assert not continues(old, root, size, root, proof)
    assert not continues(old, old_root, size, old_root, proof)
    assert not continues(old, old_root, size, root, proof[:-1])
    assert not continues(old, old_root, size, root, [*proof, proof[0]])
    assert not continues(size, root, old, old_root, proof)


def test_a_tree_continues_itself_and_the_empty_one_by_no_proof() -> None:
    root = plain_root(0, 5)
    assert continues(5, root, 5, root, [])
    assert continues(0, EMPTY_ROOT, 5, root, [])
    assert not continues(5, root, 5, plain_root(0, 4), [])
    assert not continues(5, root, 5, root, [root])


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.integers(0, 400), min_size=1, max_size=6), beyond_a_level=st.booleans())
def test_a_tree_goes_on_from_its_right_edge(steps: list[int], *, beyond_a_level: bool) -> None:
    size = 65_400 if beyond_a_level else 0
    kept = dict(grown(size)[1])
    made = set(kept)
    for step in steps:
        tree = GrowingTiles(size, {tile: kept[tile] for tile in right_edge(size)})
        tree.extend(LEAVES[size : size + step])
        size += step
        kept |= dict(tree.take_complete() + tree.partial())
        assert tree.root() == (plain_root(0, size) if size else EMPTY_ROOT)
    for tile in kept.keys() - made:
        span = 256**tile.level
        first = tile.index * 256
        hashes = [plain_root(n * span, (n + 1) * span) for n in range(first, first + tile.width)]
        assert kept[tile] == b"".join(hashes)


@pytest.mark.parametrize(
    "edge", [{}, {Tile(0, 0, 5): bytes(4 * 32)}, {Tile(0, 0, 5): bytes(5 * 32), Tile(1, 0, 1): bytes(32)}]
)
def test_an_edge_of_another_tree_is_refused(edge: dict[Tile, bytes]) -> None:
    with pytest.raises(ValueError, match=r"tile|content"):
        GrowingTiles(5, edge)


def test_there_is_no_proof_of_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_spans(5, 5)
    with pytest.raises(ValueError, match="continue"):
        consistency_spans(6, 5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33])
def test_a_path_through_a_small_tree_leads_to_its_root(size: int) -> None:
    hashes = [leaf_hash(bytes([n])) for n in range(size)]
    tree = GrowingTiles()
    tree.extend(hashes)
    for index in range(size):
        path = inclusion_path(hashes, index)
        assert includes(hashes[index], index, size, path, tree.root())
        assert not includes(hashes[index - 1], index, size, path, tree.root()) or size == 1
    for outside in (-1, size):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_path(hashes, outside)


def test_a_proof_of_another_size_or_place_shows_nothing() -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(4)]
    one, two, three, four = (
        perfect_root(leaves[:1]),
        perfect_root(leaves[:2]),
        node_hash(perfect_root(leaves[:2]), leaves[2]),
        perfect_root(leaves),
    )
    last = [leaves[2], two]
    assert includes(leaves[3], 3, 4, last, four)
    assert not includes(leaves[3], -1, 4, last, four)
    assert not includes(leaves[0], 0, 4, [leaves[1]], two)  # a shorter way, to the root of a smaller tree
    assert not includes(leaves[1], 0, 1, [leaves[0]], two)  # and a longer one
    assert continues(1, one, 2, two, [leaves[1]])
    assert not continues(1, one, 4, two, [leaves[1]])
    assert not continues(-1, leaves[0], 2, two, leaves[:2])
    assert not continues(3, three, 4, four, [])
