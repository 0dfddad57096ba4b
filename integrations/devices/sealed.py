"""Opens Fingerprint's sealed client results: an event that came through the client and cannot have been altered there.

Layout: 4 bytes header, 12 bytes nonce, AES-256-GCM ciphertext, 16 bytes tag; inside, raw DEFLATE of UTF-8 JSON.
"""

import json
import zlib
from base64 import b64decode
from collections.abc import Collection, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.devices import DeviceEvent
from domain.errors import DomainError, ErrorCode
from integrations.devices.mapping import GarbledEventError, read_event
from integrations.vendor_settings import FingerprintSettings

HEADER: Final = bytes.fromhex("9e85dced")
NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_SEALED_MAX: Final = 256 * 1024
_PLAIN_MAX: Final = 1024 * 1024
_RAW_DEFLATE: Final = -15


class FingerprintSealedEvents:
    """Implements `SealedDeviceEvents` with every key that is good now, newest first."""

    def __init__(self, keys: Sequence[bytes], origins: Collection[str] = ()) -> None:
        """`origins` are where our clients run; without any it is not looked at."""
        self._origins = origins
        self._ciphers = [AESGCM(key) for key in keys]

    @classmethod
    def of(cls, settings: FingerprintSettings) -> "FingerprintSealedEvents":
        """Return what opens the results sealed for us. Raises ValueError where a key is none."""
        keys = [b64decode(key.get_secret_value(), validate=True) for key in settings.sealed_keys]
        return cls(keys, settings.origins)

    def open(self, sealed: str) -> DeviceEvent:
        """Return the event in a sealed result, bounded in size before and after it is unpacked."""
        try:
            content = json.loads(_inflate(self._decrypt(_decode(sealed))))
            if not isinstance(content, dict):
                raise _invalid("no event inside")
            return read_event(content, self._origins)
        except (ValueError, RecursionError, GarbledEventError):
            raise _invalid("no event inside") from None

    def _decrypt(self, sealed: bytes) -> bytes:
        if not sealed.startswith(HEADER) or len(sealed) < len(HEADER) + NONCE_BYTES + _TAG_BYTES:
            raise _invalid("not a sealed result")
        nonce, ciphertext = sealed[len(HEADER) :][:NONCE_BYTES], sealed[len(HEADER) + NONCE_BYTES :]
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, ciphertext, None)
            except InvalidTag:
                continue
        raise _invalid("not sealed for us")


def _decode(sealed: str) -> bytes:
    if len(sealed) > _SEALED_MAX:
        raise _invalid("too long")
    try:
        return b64decode(sealed, validate=True)
    except ValueError:
        raise _invalid("not base64") from None


def _inflate(packed: bytes) -> bytes:
    inflater = zlib.decompressobj(_RAW_DEFLATE)
    try:
        plain = inflater.decompress(packed, _PLAIN_MAX)
    except zlib.error:
        raise _invalid("not packed as agreed") from None
    if not inflater.eof or inflater.unused_data:
        raise _invalid("not packed as agreed")
    return plain


def _invalid(detail: str) -> DomainError:
    return DomainError(ErrorCode.DEVICE_EVENT_INVALID, detail)
