"""Digests as tokens carry them."""

import hashlib

from integrations.keys import base64url


def digest(content: bytes) -> str:
    """Return the base64url SHA-256 of `content`: the form of `ath`, `bdh`, thumbprints and device hashes."""
    return base64url.encode_text(hashlib.sha256(content).digest())
