"""Bodies of webhooks while they wait: AES-256-GCM under the current key of `inbox`, read again every minute."""

import os
import time
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import DomainError, ErrorCode
from domain.framing import framed
from domain.ports import KeyManagement, KeyMaterial
from integrations.keys.purposes import INBOX

_FRESH_S = 60.0
_NONCE_BYTES = 12
_DOMAIN = b"comitia/inbox/1"


class InboxSeal:
    """Encrypts and decrypts bodies; vendor and delivery id are authenticated with them.

    All calls raise DomainError `key_unavailable` or `key_destroyed`.
    """

    def __init__(self, keys: KeyManagement, *, now: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._now = now
        self._current: KeyMaterial | None = None
        self._read_at = 0.0

    async def seal(self, vendor: str, delivery_id: str, body: bytes) -> tuple[str, bytes]:
        """Return the key's id, and nonce, ciphertext and tag: 28 bytes more than the body."""
        if self._current is None or self._now() - self._read_at >= _FRESH_S:
            read_at = self._now()
            self._current = await self._keys.current(INBOX)
            self._read_at = read_at
        nonce = os.urandom(_NONCE_BYTES)
        aad = framed(_DOMAIN, vendor.encode(), delivery_id.encode())
        return self._current.key_id, nonce + AESGCM(self._current.secret).encrypt(nonce, body, aad)

    async def open(self, vendor: str, delivery_id: str, key_id: str, sealed: bytes) -> bytes:
        """Return a body."""
        held = self._current
        key = held if held is not None and held.key_id == key_id else await self._keys.by_id(key_id)
        aad = framed(_DOMAIN, vendor.encode(), delivery_id.encode())
        try:
            return AESGCM(key.secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], aad)
        except (InvalidTag, ValueError) as error:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, "the body of a webhook does not open") from error
