from hashlib import sha256

import pytest

from domain import merkle

# The tree of RFC 9162, section 2.1.5, written out by hand for seven entries.
ENTRIES = [bytes([n]) for n in range(7)]


def leaf(entry: bytes) -> bytes:
    return sha256(b"\0" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def test_the_root_of_seven_entries_is_that_of_the_standard() -> None:
    a, b, c, d, e, f, j = (leaf(entry) for entry in ENTRIES)
    left = node(node(a, b), node(c, d))
    assert merkle.root(ENTRIES) == node(left, node(node(e, f), j))


def split_root(entries: list[bytes]) -> bytes:
    """The definition of RFC 9162, section 2.1.1: split at the largest power of two below the size."""
    if not entries:
        return sha256().digest()
    if len(entries) == 1:
        return leaf(entries[0])
    k = 1 << (len(entries) - 1).bit_length() - 1
    return node(split_root(entries[:k]), split_root(entries[k:]))


@pytest.mark.parametrize("size", [*range(34), 127, 128, 129])
def test_level_by_level_is_the_same_tree_as_the_definition(size: int) -> None:
    entries = [n.to_bytes(2, "big") for n in range(size)]
    assert merkle.root(entries) == split_root(entries)


def test_order_and_content_matter() -> None:
    assert merkle.root([b"a", b"b"]) != merkle.root([b"b", b"a"])
    assert merkle.root([b"a"]) != merkle.root([b"a", b"a"])
