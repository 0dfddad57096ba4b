"""Ranges of nullifiers of about one size: they are HMACs, so they lie evenly."""

from collections.abc import Iterator

RANGE_TARGET = 50_000  # nullifiers of one cell that are held at once
_PREFIX_BYTES = 3


def nullifier_ranges(count: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield ranges (first, end) that cover every nullifier, about `RANGE_TARGET` of `count` in each; the last is open.

    A cell with other values than HMACs makes uneven ranges, never wrong ones.
    """
    ranges = max(1, -(-count // RANGE_TARGET))
    span = 256**_PREFIX_BYTES
    bounds = [(span * place // ranges).to_bytes(_PREFIX_BYTES) for place in range(ranges)]
    bounds[0] = b""
    yield from zip(bounds, [*bounds[1:], None], strict=True)
