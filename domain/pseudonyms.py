"""Keyed hashes that stand for voters, devices and networks where something must be counted but not known."""

import hashlib
import hmac

from domain.framing import framed

PSEUDONYM_BYTES = 16
_DOMAIN = b"comitia/pseudonym/1"


def pseudonym(key: bytes, kind: str, *parts: str) -> bytes:
    """Return 16 bytes for something of a kind (`voter`, `device`, `network`) under a 32-byte key.

    More `parts` narrow it: a device within a survey has another pseudonym in each survey.
    """
    fields = (_DOMAIN, kind.encode(), *(part.encode() for part in parts))
    return hmac.digest(key, framed(*fields), hashlib.sha256)[:PSEUDONYM_BYTES]
