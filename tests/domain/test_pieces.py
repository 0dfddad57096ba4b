"""Content in pieces."""

from collections.abc import AsyncIterator

from domain.pieces import joined, one_piece


async def three() -> AsyncIterator[bytes]:
    for piece in (b"a", b"", b"bc"):
        yield piece


async def test_pieces_are_put_together_in_their_order() -> None:
    assert await joined(three()) == b"abc"
    assert await joined(one_piece(b"whole")) == b"whole"
