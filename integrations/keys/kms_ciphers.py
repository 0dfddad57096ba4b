"""Short secrets that AWS KMS makes, encrypts and decrypts.

The context of a ciphertext names the purpose, the key and the part, and KMS opens it with the same one only: so its
policies can say by `kms:EncryptionContext:purpose` which process may open what, and no ciphertext takes the place of
another.
"""

from enum import StrEnum
from typing import Any

from domain.errors import DomainError, ErrorCode
from integrations.keys.answers import answering
from integrations.keys.key_ids import parse_key_id
from integrations.keys.wrapping import KEY_BYTES

_WHO = "the key management service"


class Part(StrEnum):
    """What of a key is encrypted."""

    SECRET = "secret"  # noqa: S105 - a word of the context
    PUBLIC = "public"


class KmsCiphers:
    """Ciphertexts under one key of AWS KMS. Its calls block; all raise DomainError `key_unavailable`."""

    def __init__(self, client: Any, kms_key: str) -> None:
        self._client = client
        self._kms_key = kms_key

    def generate(self, key_id: str) -> tuple[bytes, bytes]:
        """Return 32 random bytes and their ciphertext, as the secret of a key."""
        with answering(_WHO):
            answer = self._client.generate_data_key(
                KeyId=self._kms_key, KeySpec="AES_256", EncryptionContext=_context(key_id, Part.SECRET)
            )
            return _whole(answer["Plaintext"]), bytes(answer["CiphertextBlob"])

    def seal(self, key_id: str, part: Part, plaintext: bytes) -> bytes:
        """Return the ciphertext of 32 bytes."""
        with answering(_WHO):
            answer = self._client.encrypt(
                KeyId=self._kms_key, Plaintext=plaintext, EncryptionContext=_context(key_id, part)
            )
            return bytes(answer["CiphertextBlob"])

    def open(self, key_id: str, part: Part, ciphertext: bytes) -> bytes:
        """Return the 32 bytes inside. The KMS key is said, so that none of somebody else's is taken for ours."""
        with answering(_WHO):
            answer = self._client.decrypt(
                KeyId=self._kms_key, CiphertextBlob=ciphertext, EncryptionContext=_context(key_id, part)
            )
            return _whole(answer["Plaintext"])


def _context(key_id: str, part: Part) -> dict[str, str]:
    return {"purpose": parse_key_id(key_id)[0], "key": key_id, "part": part.value}


def _whole(plaintext: bytes) -> bytes:
    if len(plaintext) != KEY_BYTES:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"{_WHO}: {len(plaintext)} bytes are no key")
    return plaintext
