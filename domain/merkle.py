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


class GrowingTree:
    """The same root over entries that come one after the other: memory and state are logarithmic in their number."""

    def __init__(self, peaks: Iterable[bytes] = (), size: int = 0) -> None:
        """Go on where another tree of `size` entries stopped; `peaks` are its `peaks`."""
        self._peaks = list(peaks)
        self.size = size
        if len(self._peaks) != size.bit_count():
            raise ValueError("these are not the peaks of a tree of this size")

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """Roots of the perfect trees that the entries make, largest first: one for each bit that is set in `size`."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf (32 bytes)."""
        carried, node = self.size, leaf
        while carried & 1:
            node = node_hash(self._peaks.pop(), node)
            carried >>= 1
        self._peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the tree hash (32 bytes) over what was added so far."""
        if not self._peaks:
            return EMPTY_ROOT
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = node_hash(peak, node)
        return node
