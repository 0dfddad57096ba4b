"""The key management service as files, for development and tests; production refuses it.

`{folder}/{purpose}/{date}/{number}.key` holds the 32 bytes (mode 0600), `.pub` beside it the public key of a signing
purpose, `.destroyed` marks that the key is gone for good. A key file appears whole or not at all (written aside, then
linked), so any number of processes may make the first key of a purpose at once and agree on one.
"""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from nacl.bindings import crypto_sign_seed_keypair

from domain.errors import DomainError, ErrorCode
from domain.ports import KeyMaterial
from integrations.keys import wrapping
from integrations.keys.key_ids import parse_key_id
from integrations.keys.key_service import KeyService, utc_today
from integrations.keys.purposes import SIGNING

_UNWRITABLE = "the key folder cannot be written"
_KEY, _PUB, _DESTROYED = ".key", ".pub", ".destroyed"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _unwritable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, _UNWRITABLE) from error


class FileKms(KeyService):
    """Implements `KeyManagement` with a folder.

    Nothing is cached, so that a destroyed key is gone for everyone at once; callers keep what they use often.
    """

    def __init__(self, folder: Path, allowed: frozenset[str], *, today: Callable[[], date] = utc_today) -> None:
        super().__init__(KeyFolder(folder), allowed, today=today)
        self.folder = folder


class KeyFolder:
    """Implements `KeyPlace`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ids(self, purpose: str) -> dict[str, bool]:
        """Return every id of a purpose, and whether its key still exists."""
        folder = self._folder / purpose
        files = {path.relative_to(folder).as_posix() for path in folder.glob("????-??-??/*")}
        names = {name.rsplit(".", 1)[0] for name in files if name.endswith((_KEY, _DESTROYED))}
        return {f"{purpose}/{name}": f"{name}{_DESTROYED}" not in files for name in names}

    def make(self, key_id: str) -> KeyMaterial:
        """Make the files of a new key. Raises FileExistsError where the id is taken."""
        secret = secrets.token_bytes(wrapping.KEY_BYTES)
        path = self._folder / key_id
        with _unwritable():
            self._make_folders(path.parent)
        try:
            self._link(path.with_name(path.name + _KEY), secret, 0o600)
        except FileExistsError:
            raise
        except OSError as error:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, _UNWRITABLE) from error
        if parse_key_id(key_id)[0] in SIGNING:
            with _unwritable():
                self._publish(path, secret)
        return KeyMaterial(key_id, secret)

    def read(self, key_id: str) -> KeyMaterial:
        """Return a key; raises DomainError `key_destroyed` once it was."""
        path = self._folder / key_id
        try:
            secret = path.with_name(path.name + _KEY).read_bytes()
        except OSError:
            secret = b""
        if path.with_name(path.name + _DESTROYED).exists():  # looked for last: zeros are written after it is there
            raise DomainError(ErrorCode.KEY_DESTROYED, key_id)
        if not secret:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"no key {key_id}")
        if len(secret) != wrapping.KEY_BYTES:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"the file of {key_id} is not a key")
        if parse_key_id(key_id)[0] in SIGNING and not path.with_name(path.name + _PUB).exists():
            self._publish(path, secret)  # its maker died between the two files
        return KeyMaterial(key_id, secret)

    def public_keys(self, key_ids: Iterable[str]) -> dict[str, bytes]:
        """Return the public keys of these ids, in their order; those that are not there are left out."""
        found: dict[str, bytes] = {}
        for key_id in key_ids:
            with suppress(FileNotFoundError):  # not published yet, or destroyed just now
                found[key_id] = (self._folder / f"{key_id}{_PUB}").read_bytes()
        return found

    def destroy(self, key_id: str) -> None:
        """Destroy a key for good and leave a tombstone; safe to repeat."""
        path = self._folder / key_id
        secret = path.with_name(path.name + _KEY)
        if not secret.exists() and not path.with_name(path.name + _DESTROYED).exists():
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"no key {key_id}")
        with _unwritable(), suppress(FileExistsError):
            self._link(path.with_name(path.name + _DESTROYED), b"", 0o600)
        with suppress(FileNotFoundError):
            with secret.open("r+b") as file:
                file.write(bytes(wrapping.KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            secret.unlink()
        path.with_name(path.name + _PUB).unlink(missing_ok=True)
        _sync_folder(path.parent)

    def _make_folders(self, folder: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for parent in reversed(folder.relative_to(self._folder).parents):
            (self._folder / parent).mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)

    def _publish(self, path: Path, secret: bytes) -> None:
        with suppress(FileExistsError):
            self._link(path.with_name(path.name + _PUB), crypto_sign_seed_keypair(secret)[0], 0o644)

    @staticmethod
    def _link(path: Path, content: bytes, mode: int) -> None:
        """Put a whole, synced file at `path`, or raise FileExistsError."""
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, path)
        finally:
            aside.unlink()
        _sync_folder(path.parent)
