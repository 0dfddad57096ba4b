"""Sets of batches as bitmaps, one bit per number and gateway, as the tally in Redis keeps them."""

from collections.abc import Iterable, Iterator, Mapping

BATCHES_PER_CHUNK = 65_536  # batch numbers per bitmap: 8 KiB
BatchKey = tuple[str, int]  # the gateway's id in hexadecimal, and the number there


class BatchBits:
    """A set of batches; a chunk is `BATCHES_PER_CHUNK` numbers of a gateway, its most significant bit first."""

    __slots__ = ("chunks",)

    def __init__(self, chunks: Mapping[tuple[str, int], bytes] | None = None) -> None:
        """`chunks` are bitmaps by gateway and number // `BATCHES_PER_CHUNK`."""
        self.chunks: dict[tuple[str, int], bytearray] = {
            place: bytearray(bits) for place, bits in (chunks or {}).items()
        }

    def add(self, gateway: str, number: int) -> None:
        """Add a batch."""
        chunk, bit = divmod(number, BATCHES_PER_CHUNK)
        bits = self.chunks.setdefault((gateway, chunk), bytearray())
        byte = bit >> 3
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        bits[byte] |= 0x80 >> (bit & 7)

    def include(self, others: Mapping[tuple[str, int], bytes | bytearray]) -> None:
        """Add every batch of other chunks."""
        for place, more in others.items():
            bits = self.chunks.setdefault(place, bytearray())
            size = max(len(bits), len(more))
            joined = int.from_bytes(bits.ljust(size, b"\0")) | int.from_bytes(bytes(more).ljust(size, b"\0"))
            self.chunks[place] = bytearray(joined.to_bytes(size))

    def __len__(self) -> int:
        """Return how many batches are in the set."""
        return sum(int.from_bytes(bits).bit_count() for bits in self.chunks.values())

    def without(self, other: "BatchBits") -> Iterator[BatchKey]:
        """Yield the batches of this set that are not in the other, in order."""
        for (gateway, chunk), bits in sorted(self.chunks.items()):
            theirs = other.chunks.get((gateway, chunk), bytearray())
            if bits == theirs:
                continue
            size = len(bits)
            only = int.from_bytes(bits) & ~int.from_bytes(bytes(theirs[:size]).ljust(size, b"\0"))
            yield from ((gateway, chunk * BATCHES_PER_CHUNK + bit) for bit in _set_bits(only.to_bytes(size)))


def _set_bits(bits: Iterable[int]) -> Iterator[int]:
    for place, byte in enumerate(bits):
        if byte:
            yield from (8 * place + bit for bit in range(8) if byte & (0x80 >> bit))
