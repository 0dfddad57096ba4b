"""The one encoding of a list of byte strings for hashing and signing: no two lists share it."""


def framed(*fields: bytes) -> bytes:
    """Return the fields one after the other, each behind its length in four bytes, big-endian."""
    return b"".join(len(content).to_bytes(4, "big") + content for content in fields)
