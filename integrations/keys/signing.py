"""Ed25519 through libsodium: half the cost of other bindings, and strict about what a signature may look like.

libsodium refuses non-canonical scalars and points of small order, so that one signature has one spelling.
"""

import asyncio
import itertools
from typing import Protocol

import structlog
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from domain.errors import DomainError
from domain.ports import KeyManagement

SIGNATURE_BYTES = 64
_log = structlog.get_logger()


def is_signed(message: bytes, signature: bytes, public_key: bytes) -> bool:
    """Tell whether `signature` (64 bytes) is the Ed25519 signature of `message` under a 32-byte public key."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


class Signer(Protocol):
    """Signs with the current key of one purpose."""

    @property
    def key_id(self) -> str:
        """The id of the key in use."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature."""
        ...


class Ed25519Signer:
    """The current key of a signing purpose, held in memory.

    A rotated key is used one `refresh` after it was first seen, so that verifiers, which refresh more often, know it
    before a token names it.
    """

    def __init__(self, kms: KeyManagement, purpose: str) -> None:
        self._kms = kms
        self._purpose = purpose
        self._seen = ""
        self._key_id = ""
        self._secret = b""

    @property
    def key_id(self) -> str:
        """The id of the key in use; empty before the first `refresh`."""
        return self._key_id

    async def refresh(self) -> None:
        """Look for the current key; call before first use and then every minute."""
        key = await self._kms.current(self._purpose)
        if not self._key_id or self._seen == key.key_id != self._key_id:
            if self._key_id:
                _log.info("signing_key_changed", key_id=key.key_id)
            self._secret = crypto_sign_seed_keypair(key.secret)[1]
            self._key_id = key.key_id
        self._seen = key.key_id

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        signed: bytes = crypto_sign(message, self._secret)
        return signed[:SIGNATURE_BYTES]


class CertificateKeys:
    """Signs certificates with the newest key of their purpose, read anew each time: it happens once per survey."""

    def __init__(self, kms: KeyManagement, purpose: str) -> None:
        self._kms = kms
        self._purpose = purpose

    async def sign(self, message: bytes) -> tuple[str, bytes]:
        """Return the key's id and the signature (64 bytes) of `message`. Raises DomainError `key_unavailable`."""
        key = await self._kms.current(self._purpose)
        signed: bytes = crypto_sign(message, crypto_sign_seed_keypair(key.secret)[1])
        return key.key_id, signed[:SIGNATURE_BYTES]


class LogKeys:
    """Implements `LogSigner` with the newest key of its purpose, read anew each time: it happens once a minute."""

    def __init__(self, kms: KeyManagement, purpose: str) -> None:
        self._kms = kms
        self._purpose = purpose

    async def sign(self, message: bytes) -> tuple[bytes, bytes]:
        """Return the public key (32 bytes) and its signature (64 bytes). Raises DomainError `key_unavailable`."""
        public_key, secret = crypto_sign_seed_keypair((await self._kms.current(self._purpose)).secret)
        signed: bytes = crypto_sign(message, secret)
        return public_key, signed[:SIGNATURE_BYTES]

    async def public_keys(self) -> list[bytes]:
        """Return every public key of the purpose. Raises DomainError `key_unavailable`."""
        return list((await self._kms.public_keys(self._purpose)).values())

    def is_signed(self, message: bytes, signature: bytes, public_key: bytes) -> bool:
        """Tell whether this is the key's signature of the message."""
        return is_signed(message, signature, public_key)


class VerificationKeys:
    """The public keys of a signing purpose, held in memory; `refresh` replaces them as a whole."""

    def __init__(self, kms: KeyManagement, purpose: str) -> None:
        self._kms = kms
        self._purpose = purpose
        self.by_id: dict[str, bytes] = {}
        self.is_missing = False  # a token named a key that is not here: time to refresh

    async def refresh(self) -> None:
        """Read the keys again; while that fails the ones at hand stay in use."""
        try:
            keys = await self._kms.public_keys(self._purpose)
        except DomainError as error:
            _log.warning("verification_keys_unavailable", purpose=self._purpose, code=error.code)
            return
        self.is_missing = False
        if keys != self.by_id:
            self.by_id = keys

    def get(self, key_id: str) -> bytes | None:
        """Return the 32-byte public key of an id, or None, which asks for an early refresh."""
        found = self.by_id.get(key_id)
        if found is None:
            self.is_missing = True
        return found


async def keep_fresh(*held: Ed25519Signer | VerificationKeys) -> None:
    """Refresh held keys until cancelled: public ones every 10 s, or within 1 s of a miss; signing ones every minute.

    What cannot be read now stays as it was: a key service that is away stops nobody who has his keys.
    """
    for second in itertools.count(1):
        await asyncio.sleep(1)
        for keys in held:
            if isinstance(keys, VerificationKeys):
                if keys.is_missing or second % 10 == 0:
                    await keys.refresh()
            elif second % 60 == 0:
                try:
                    await keys.refresh()
                except DomainError as error:
                    _log.warning("signing_key_unavailable", key_id=keys.key_id, code=error.code)
