"""Personal data under one voter's data key: AES-256-GCM over JSON, padded so that its length says little.

Sealed form: 0x01, nonce (12 bytes), ciphertext and tag. The voter's id is authenticated with it.
"""

import os
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import DomainError, ErrorCode
from domain.framing import framed

FIELDS_MAX = 16_384  # bytes of JSON
_PADDED_TO = 256
_VERSION = b"\x01"
_NONCE_BYTES = 12
_DOMAIN = b"comitia/personal/1"


def seal_fields(fields: Mapping[str, str], key: bytes, voter_id: str) -> bytes:
    """Return fields sealed under a 32-byte key, with a new nonce each time.

    Raises:
        DomainError: `payload_too_large` over `FIELDS_MAX`.
    """
    plain = msgspec.json.encode(dict(sorted(fields.items())))
    if len(plain) > FIELDS_MAX:
        raise DomainError(ErrorCode.PAYLOAD_TOO_LARGE, "personal data")
    padded = plain.ljust(-(-len(plain) // _PADDED_TO) * _PADDED_TO)
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, padded, framed(_DOMAIN, voter_id.encode()))


def open_fields(sealed: bytes, key: bytes, voter_id: str) -> dict[str, str]:
    """Return the fields inside.

    Raises:
        DomainError: `key_unavailable`; another key, another voter, or changed bytes.
    """
    nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        if sealed[:1] != _VERSION:
            raise InvalidTag
        plain = AESGCM(key).decrypt(nonce, rest, framed(_DOMAIN, voter_id.encode()))
    except (InvalidTag, ValueError) as error:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, "personal data does not open") from error
    return msgspec.json.decode(plain, type=dict[str, str])
