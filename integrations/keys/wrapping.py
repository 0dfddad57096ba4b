"""Data keys under key-encryption keys: AES-256-GCM, the key's id inside the wrapped form.

Wrapped form: 0x01, length of the key id (1 byte), key id (ASCII), nonce (12 bytes), ciphertext and tag (48 bytes).
The context and the key id are authenticated with it.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import DomainError, ErrorCode
from domain.framing import framed

KEY_BYTES = 32
_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_DOMAIN = b"comitia/wrapped-data-key/1"


def _authenticated(key_id: bytes, context: str) -> bytes:
    return framed(_DOMAIN, key_id, context.encode())


def wrap(key_id: str, secret: bytes, plaintext: bytes, context: str) -> bytes:
    """Return a 32-byte data key wrapped under `secret` (32 bytes)."""
    name = key_id.encode("ascii")
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(secret).encrypt(nonce, plaintext, _authenticated(name, context))
    return bytes((_VERSION, len(name))) + name + nonce + sealed


def key_id_of(wrapped: bytes) -> str:
    """Return the id of the key-encryption key that a wrapped form names.

    Raises:
        DomainError: `key_unavailable`; this is no wrapped data key.
    """
    if len(wrapped) > 1 and wrapped[0] == _VERSION:
        end = 2 + wrapped[1]
        if len(wrapped) == end + _NONCE_BYTES + KEY_BYTES + _TAG_BYTES:
            try:
                return wrapped[2:end].decode("ascii")
            except UnicodeDecodeError:
                pass
    raise DomainError(ErrorCode.KEY_UNAVAILABLE, "not a wrapped data key")


def unwrap(wrapped: bytes, secret: bytes, context: str) -> bytes:
    """Return the data key inside.

    Raises:
        DomainError: `key_unavailable`; another key, another context, or changed bytes.
    """
    name = key_id_of(wrapped).encode("ascii")
    start = 2 + len(name)
    nonce, sealed = wrapped[start : start + _NONCE_BYTES], wrapped[start + _NONCE_BYTES :]
    try:
        return AESGCM(secret).decrypt(nonce, sealed, _authenticated(name, context))
    except InvalidTag as error:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, "a wrapped data key does not open") from error


class KeyNames:
    """What wrapped keys say of the keys that wrap them."""

    def key_id_of(self, wrapped: bytes) -> str:
        """Return the id of the key-encryption key; empty where this is no wrapped key, which no key opens."""
        try:
            return key_id_of(wrapped)
        except DomainError:
            return ""
