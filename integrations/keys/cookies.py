"""What a browser keeps for us and may not read: AES-256-GCM under the current key of `console`."""

import os
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import DomainError, ErrorCode
from domain.framing import framed
from domain.ports import KeyManagement, KeyMaterial
from integrations.keys.purposes import CONSOLE

_FRESH_S: Final = 60.0
_NONCE_BYTES: Final = 12
_DOMAIN: Final = b"comitia/console-cookie/1"
_COOKIE: Final = re.compile(r"(?P<key>[0-9]{4}-[0-9]{2}-[0-9]{2}\.[1-9][0-9]{0,5})\.(?P<sealed>[A-Za-z0-9_-]{38,2000})")


class CookieSeal:
    """Seals and opens contents for one use each, which is authenticated with them. Needs the purpose `console`."""

    def __init__(self, keys: KeyManagement, *, now: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._now = now
        self._current: KeyMaterial | None = None
        self._read_at = float("-inf")

    async def seal(self, use: str, content: str) -> str:
        """Return the cookie of a content, 54 characters and four thirds of it. Raises DomainError `key_unavailable`."""
        key = await self._newest()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(key.secret).encrypt(nonce, content.encode(), framed(_DOMAIN, use.encode()))
        name = key.key_id.removeprefix(f"{CONSOLE}/").replace("/", ".")
        return f"{name}.{urlsafe_b64encode(sealed).decode('ascii').rstrip('=')}"

    async def open(self, use: str, cookie: str) -> str | None:
        """Return the content of a cookie of ours, or None. Raises DomainError `key_unavailable`."""
        found = _COOKIE.fullmatch(cookie)
        if found is None:
            return None
        key = await self._key(f"{CONSOLE}/{found['key'].replace('.', '/')}")
        if key is None:
            return None
        sealed = urlsafe_b64decode(found["sealed"] + "=" * (-len(found["sealed"]) % 4))
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return AESGCM(key.secret).decrypt(nonce, rest, framed(_DOMAIN, use.encode())).decode()
        except (InvalidTag, ValueError):
            return None

    async def _newest(self) -> KeyMaterial:
        if self._current is None or self._now() - self._read_at >= _FRESH_S:
            read_at = self._now()
            self._current = await self._keys.current(CONSOLE)
            self._read_at = read_at
        return self._current

    async def _key(self, key_id: str) -> KeyMaterial | None:
        newest = await self._newest()
        if newest.key_id == key_id:
            return newest
        if key_id not in await self._keys.key_ids(CONSOLE):
            return None
        try:
            return await self._keys.by_id(key_id)
        except DomainError as error:
            if error.code is ErrorCode.KEY_DESTROYED:
                return None
            raise
