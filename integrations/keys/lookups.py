"""Keyed hashes of what accounts and persons are found by, under every live version of `lookup` and `document`.

A digest is HMAC-SHA-256 over the framed domain, kind and canonical value.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from domain import canonical
from domain.accounts import KeyedHash, LookupKind
from domain.errors import DomainError, ErrorCode
from domain.framing import framed
from domain.ports import KeyManagement, KeyMaterial
from domain.proofing import Document
from integrations.keys.purposes import DOCUMENT, LOOKUP

FRESH_S = 60.0  # for so long a process may not know a new version: it meets the others at an older one
_DOMAIN = b"comitia/lookup/1"

_CANONICAL: dict[LookupKind, Callable[[str], str]] = {
    LookupKind.MAIL: canonical.mail,
    LookupKind.PHONE: canonical.phone,
    LookupKind.LOGIN: canonical.login,
    LookupKind.DEVICE: canonical.device,
    LookupKind.FEATURE: canonical.login,
    LookupKind.CODE: canonical.login,
}


@dataclass(slots=True)
class _Versions:
    """The live versions of one purpose as they were read, oldest first."""

    keys: tuple[KeyMaterial, ...] = ()
    read_at: float = float("-inf")


class KeyedLookupHashes:
    """Implements `LookupHashes`; needs the purposes `lookup` and `document`, or the one that is asked for."""

    def __init__(self, keys: KeyManagement, *, now: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._now = now
        self._versions = {LOOKUP: _Versions(), DOCUMENT: _Versions()}
        self._reading = {LOOKUP: asyncio.Lock(), DOCUMENT: asyncio.Lock()}

    async def newest(self, kind: LookupKind, value: str) -> KeyedHash:
        """Return the hash under the newest version."""
        return (await self.every(kind, value))[-1]

    async def every(self, kind: LookupKind, value: str) -> tuple[KeyedHash, ...]:
        """Return the hash under every live version, oldest key first."""
        if kind not in _CANONICAL:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, f"{kind} is not hashed as text")
        message = framed(_DOMAIN, kind.encode(), _CANONICAL[kind](value).encode())
        return _hashes(await self._live(LOOKUP), message)

    async def document(self, document: Document) -> tuple[KeyedHash, ...]:
        """Return the hashes of a document under every live version, oldest key first; all of them are claimed."""
        parts = (part.encode() for part in canonical.document(document))
        return _hashes(await self._live(DOCUMENT), framed(_DOMAIN, LookupKind.DOCUMENT.encode(), *parts))

    async def _live(self, purpose: str) -> tuple[KeyMaterial, ...]:
        held = self._versions[purpose]
        if self._now() - held.read_at < FRESH_S:  # a login hashes a dozen values: none of them takes turns
            return held.keys
        async with self._reading[purpose]:
            if self._now() - held.read_at >= FRESH_S:
                read_at = self._now()
                await self._keys.current(purpose)  # made on first use
                held.keys = tuple([await self._keys.by_id(key_id) for key_id in await self._keys.key_ids(purpose)])
                held.read_at = read_at
        return held.keys


def _hashes(keys: tuple[KeyMaterial, ...], message: bytes) -> tuple[KeyedHash, ...]:
    return tuple(KeyedHash(key.key_id, hmac.digest(key.secret, message, hashlib.sha256)) for key in keys)
