"""Bytes as documents spell them: two lower-case hexadecimal digits each, nothing between them."""


def bytes_of(text: str) -> bytes:
    """Return what `text` spells.

    Raises:
        ValueError: it spells nothing, or not as we do: `bytes.fromhex` takes capitals and spaces too, so that a byte of
            a signed file could be another one unnoticed.
    """
    value = bytes.fromhex(text)
    if value.hex() != text:
        raise ValueError("not hexadecimal in the one form")
    return value
