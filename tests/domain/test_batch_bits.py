"""Bitmaps of batches are sets, in the form that the tally in Redis keeps."""

from hypothesis import given
from hypothesis import strategies as st

from domain.batch_bits import BATCHES_PER_CHUNK, BatchBits, BatchKey
from domain.nullifier_ranges import RANGE_TARGET, nullifier_ranges

KEYS = st.sets(st.tuples(st.sampled_from(["aa", "bb"]), st.integers(1, 3 * BATCHES_PER_CHUNK)), max_size=40)


def bits_of(keys: set[BatchKey]) -> BatchBits:
    bits = BatchBits()
    for gateway, number in keys:
        bits.add(gateway, number)
    return bits


@given(KEYS, KEYS)
def test_it_is_a_set(one: set[BatchKey], two: set[BatchKey]) -> None:
    ours, theirs = bits_of(one), bits_of(two)
    assert len(ours) == len(one)
    assert list(ours.without(theirs)) == sorted(one - two)
    ours.include(theirs.chunks)
    assert list(ours.without(BatchBits())) == sorted(one | two)
    assert BatchBits({place: bytes(bits) for place, bits in ours.chunks.items()}).chunks == ours.chunks


def test_the_first_number_is_the_most_significant_bit_as_in_redis() -> None:
    bits = bits_of({("aa", 1), ("aa", 8), ("aa", BATCHES_PER_CHUNK)})
    assert bits.chunks == {("aa", 0): bytearray(b"\x40\x80"), ("aa", 1): bytearray(b"\x80")}


@given(st.integers(0, 100 * RANGE_TARGET), st.binary(min_size=32, max_size=32))
def test_every_nullifier_is_in_one_range(count: int, nullifier: bytes) -> None:
    ranges = list(nullifier_ranges(count))
    assert len(ranges) == max(1, -(-count // RANGE_TARGET))
    assert sum(first <= nullifier and (end is None or nullifier < end) for first, end in ranges) == 1
