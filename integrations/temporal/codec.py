"""Encrypts what histories keep; only key ids stand beside the ciphertext."""

import asyncio
import os
from collections.abc import Sequence

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from domain.errors import DomainError, ErrorCode
from domain.ports import KeyManagement

ENCODING = b"binary/encrypted"
_NONCE_BYTES = 12
_REFRESH_S = 60.0

log = structlog.get_logger()


class PayloadChangedError(DomainError):
    """A payload that does not open under the key that it names: it is not as that key has sealed it."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.KEY_UNAVAILABLE, "a payload does not open under its key")


class EncryptionCodec(PayloadCodec):
    """AES-256-GCM under the newest key of one purpose; decodes under any live key that the process may use.

    The key in use is fixed by `refresh`, which the composition calls at start and on a timer: a codec must not wait
    for a key service in the middle of a task.
    """

    def __init__(self, keys: KeyManagement, purpose: str) -> None:
        self._keys = keys
        self._purpose = purpose
        self._ciphers: dict[str, AESGCM] = {}
        self._key_id = ""

    async def refresh(self) -> None:
        """Take up the purpose's newest key.

        Raises:
            DomainError: `key_unavailable`.
        """
        key = await self._keys.current(self._purpose)
        self._ciphers.setdefault(key.key_id, AESGCM(key.secret))
        self._key_id = key.key_id

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return each payload whole (metadata included) as one encrypted payload."""
        if not self._key_id:
            await self.refresh()
        cipher, key_id = self._ciphers[self._key_id], self._key_id.encode()
        encoded = []
        for payload in payloads:
            nonce = os.urandom(_NONCE_BYTES)
            data = nonce + cipher.encrypt(nonce, payload.SerializeToString(), key_id)
            encoded.append(Payload(metadata={"encoding": ENCODING, "encryption-key-id": key_id}, data=data))
        return encoded

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads as they were; ones that were never encrypted pass.

        Raises:
            DomainError: `key_destroyed`, or `key_unavailable` also where the ciphertext was changed.
        """
        return [await self._decode(payload) for payload in payloads]

    async def _decode(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        key_id = payload.metadata["encryption-key-id"]
        cipher = self._ciphers.get(key_id.decode())
        if cipher is None:
            key = await self._keys.by_id(key_id.decode())
            cipher = self._ciphers[key.key_id] = AESGCM(key.secret)
        try:
            plain = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], key_id)
        except (InvalidTag, ValueError) as error:  # the latter where there is not even a nonce
            raise PayloadChangedError from error
        return Payload.FromString(plain)


async def keep_refreshed(*codecs: EncryptionCodec) -> None:
    """Take up new keys every minute until cancelled; while the key service is away the old one stays."""
    while True:
        await asyncio.sleep(_REFRESH_S)
        for codec in codecs:
            try:
                await codec.refresh()
            except DomainError as error:
                log.warning("codec_key_unavailable", code=error.code)
