"""Merkle tree hashes of RFC 9162, section 2.1.1 (SHA-256)."""

from collections.abc import Iterable
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the 32-byte hash of a leaf. Source: RFC 9162 section 2.1.1 (0x00 prefix)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node. Source: RFC 9162 section 2.1.1 (0x01 prefix)."""
    return sha256(b"\x01" + left + right).digest()


def root(entries: Iterable[bytes]) -> bytes:
    """Return the 32-byte tree hash over the entries, in their order.

    Level by level, an odd last node goes up as it is: the same tree as RFC 9162's split at the largest power of two.
    """
    level = [leaf_hash(entry) for entry in entries]
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]
