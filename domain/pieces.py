"""Content that travels in pieces, as files do: small ones made in one, and pieces put together again."""

from collections.abc import AsyncIterator


async def one_piece(content: bytes) -> AsyncIterator[bytes]:
    """Return content that is small enough for one piece."""
    yield content


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    """Return pieces as one; all of it is in memory then. Raises what reading raises."""
    return b"".join([piece async for piece in pieces])
