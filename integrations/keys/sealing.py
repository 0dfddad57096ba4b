"""What one survey's ballot key does: it seals ballots, makes receipts, and hashes idempotency keys."""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES = 32
_NONCE_BYTES = 12
_RECEIPT_BYTES = 12  # 24 hexadecimal characters
_KEY_ID = b"\x01"  # a survey has one ballot key; another would be number 2


class SurveySeal:
    """Keys derived by HKDF (RFC 5869) from the ballot key of one survey, one per use.

    Nonces are random: at two seals per vote, 300 million votes stay far below the 2^32 messages that NIST SP 800-38D
    section 8.3 allows one key.
    """

    __slots__ = ("_aad", "_aead", "_idempotency_key", "_publication_key", "_receipt_key")

    def __init__(self, survey_id: str, ballot_key: bytes) -> None:
        def derive(use: bytes) -> bytes:
            info = b"comitia/ballot/" + use
            return HKDF(SHA256(), _KEY_BYTES, salt=survey_id.encode(), info=info).derive(ballot_key)

        self._aead = AESGCM(derive(b"seal"))
        self._aad = survey_id.encode()
        self._receipt_key = derive(b"receipt")
        self._idempotency_key = derive(b"idempotency")
        self._publication_key = derive(b"publication")

    def seal(self, packed: bytes) -> bytes:
        """Return key id, nonce, ciphertext and tag: 29 bytes more than the packed ballot, new ones each time."""
        nonce = os.urandom(_NONCE_BYTES)
        return _KEY_ID + nonce + self._aead.encrypt(nonce, packed, self._aad)

    def open(self, sealed: bytes) -> bytes:
        """Return the packed ballot. Raises ValueError where the seal is broken or another survey's."""
        if sealed[:1] != _KEY_ID:
            raise ValueError("sealed under an unknown key")
        try:
            return self._aead.decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], self._aad)
        except InvalidTag as error:
            raise ValueError("the seal is broken") from error

    def receipt(self, nullifier: bytes) -> str:
        """Return the receipt code, 24 characters; always the same for one nullifier, whatever was chosen."""
        digest = hmac.digest(self._receipt_key, nullifier, "sha256")
        return digest[:_RECEIPT_BYTES].hex().upper()

    def key_mac(self, idempotency_key: bytes, nullifier: bytes) -> bytes:
        """Return the 32-byte keyed hash of an idempotency key, bound to its voter's nullifier."""
        return hmac.digest(self._idempotency_key, nullifier + idempotency_key, "sha256")

    def publication_place(self, ballot_id: bytes) -> bytes:
        """Return what published ballots are sorted by (32 bytes): without the key it says nothing of the ballot."""
        return hmac.digest(self._publication_key, ballot_id, "sha256")
