"""The key management service of production: AWS KMS makes every key, and only its ciphertext is kept, in a bucket.

`{purpose}/{date}/{number}.key` is the ciphertext of the 32 bytes. Who makes a key puts it there unless the name is
taken, so any number of processes may make the first key of a purpose at once and agree on one. A destroyed key is
overwritten with nothing: that one step destroys it and says so, and its id stays taken. `.pub` beside it is the public
key of a signing purpose, encrypted like the key: so whoever can only write to the bucket has no key of his believed.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from typing import Any, TypeVar

from nacl.bindings import crypto_sign_seed_keypair

from domain.errors import DomainError, ErrorCode
from domain.ports import KeyMaterial
from integrations.aws_clients import aws_client
from integrations.keys.held_keys import HeldKeys
from integrations.keys.key_bucket import KeyBucket
from integrations.keys.key_ids import parse_key_id
from integrations.keys.key_service import KeyService, utc_today
from integrations.keys.kms_ciphers import KmsCiphers, Part
from integrations.keys.purposes import SIGNING
from integrations.vendor_settings import AwsSettings, BucketSettings, KmsSettings

WITHIN_S = 8.0  # a whole call, tries and turns included: whoever wraps a new data key gives up after ten
_READ_TIMEOUT_S = 3.0  # one answer
_TRIES = 3
_THREADS = 8  # calls at once in one process; they are few, since what is read is held
_KEY, _PUB = ".key", ".pub"
_T = TypeVar("_T")


class EncryptedKeys:
    """Implements `KeyPlace` with KMS and a bucket; what it reads or makes is held for a minute."""

    def __init__(self, ciphers: KmsCiphers, bucket: KeyBucket, *, now: Callable[[], float] = time.monotonic) -> None:
        self.held = HeldKeys(now)
        self._ciphers = ciphers
        self._bucket = bucket
        self._public: dict[str, bytes] = {}

    def ids(self, purpose: str) -> dict[str, bool]:
        """Return every id of a purpose, and whether its key still exists."""
        sizes = self._bucket.sizes(f"{purpose}/")
        return {name.removesuffix(_KEY): size > 0 for name, size in sizes.items() if name.endswith(_KEY)}

    def make(self, key_id: str) -> KeyMaterial:
        """Have a key made, and keep its ciphertext. Raises FileExistsError where the id is taken."""
        self._bucket.require_final()
        made_at = self.held.now()
        secret, ciphertext = self._ciphers.generate(key_id)
        self._bucket.put_new(key_id + _KEY, ciphertext)
        if _signs(key_id):
            self._publish(key_id, secret)
        return self.held.keep(KeyMaterial(key_id, secret), made_at)

    def read(self, key_id: str) -> KeyMaterial:
        """Return a key; raises DomainError `key_destroyed` once it was."""
        held = self.held.get(key_id)
        if held is not None:
            return held
        read_at = self.held.now()
        ciphertext = self._bucket.get(key_id + _KEY)
        if ciphertext is None:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"no key {key_id}")
        if not ciphertext:
            raise DomainError(ErrorCode.KEY_DESTROYED, key_id)
        secret = self._ciphers.open(key_id, Part.SECRET, ciphertext)
        if _signs(key_id) and not self._bucket.has(key_id + _PUB):
            self._publish(key_id, secret)  # its maker died between the two objects
        return self.held.keep(KeyMaterial(key_id, secret), read_at)

    def public_keys(self, key_ids: Iterable[str]) -> dict[str, bytes]:
        """Return the public keys of these ids, in their order; those that are not there are left out."""
        found: dict[str, bytes] = {}
        for key_id in key_ids:
            public_key = self._public.get(key_id) or self._read_public(key_id)
            if public_key is not None:
                found[key_id] = self._public[key_id] = public_key
        return found

    def destroy(self, key_id: str) -> None:
        """Destroy a key for good and leave its name; safe to repeat."""
        self._bucket.require_final()
        if self._bucket.get(key_id + _KEY) is None:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"no key {key_id}")
        self.held.drop(key_id)
        self._bucket.overwrite(key_id + _KEY, b"")
        if _signs(key_id):
            self._bucket.remove(key_id + _PUB)

    def _read_public(self, key_id: str) -> bytes | None:
        ciphertext = self._bucket.get(key_id + _PUB)
        return None if ciphertext is None else self._ciphers.open(key_id, Part.PUBLIC, ciphertext)

    def _publish(self, key_id: str, secret: bytes) -> None:
        public_key = crypto_sign_seed_keypair(secret)[0]
        with suppress(FileExistsError):
            self._bucket.put_new(key_id + _PUB, self._ciphers.seal(key_id, Part.PUBLIC, public_key))


def _signs(key_id: str) -> bool:
    return parse_key_id(key_id)[0] in SIGNING


class AwsKms(KeyService):
    """Implements `KeyManagement`. Every call ends within `within_s`, with `key_unavailable` where nobody answers."""

    def __init__(
        self,
        place: EncryptedKeys,
        allowed: frozenset[str],
        *,
        today: Callable[[], date] = utc_today,
        within_s: float = WITHIN_S,
    ) -> None:
        super().__init__(place, allowed, today=today)
        self._held = place.held
        self._within_s = within_s
        self._calling = 0
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="keys")  # of its own: nobody else waits for it

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread, as far as can be told: one that nobody waits for may still have its own."""
        return max(0, self._calling - _THREADS)

    async def by_id(self, key_id: str) -> KeyMaterial:
        """Return a key by its id, without a call where it is held."""
        self._permit(parse_key_id(key_id)[0])
        held = self._held.get(key_id)
        return held if held is not None else await super().by_id(key_id)

    async def _do(self, call: Callable[[str], _T], argument: str) -> _T:
        self._calling += 1
        try:
            async with asyncio.timeout(self._within_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call, argument)
        except TimeoutError as error:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, "the key service does not answer in time") from error
        finally:
            self._calling -= 1


def open_aws_kms(kms: KmsSettings, bucket: BucketSettings, allowed: frozenset[str]) -> AwsKms:
    """Return the key management service of a process; nothing is asked yet."""
    ciphers = KmsCiphers(key_client("kms", kms), kms.key_id)
    return AwsKms(EncryptedKeys(ciphers, KeyBucket(key_client("s3", bucket), bucket.bucket)), allowed)


def key_client(service: str, settings: AwsSettings) -> Any:
    """Return a driver's client for `KmsCiphers` or `KeyBucket`."""
    return aws_client(service, settings, read_timeout_s=_READ_TIMEOUT_S, tries=_TRIES)
