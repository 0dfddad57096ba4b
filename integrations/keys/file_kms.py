"""The key management service as files, for development and tests; production refuses it.

`{folder}/{purpose}/{date}/{number}.key` holds the 32 bytes (mode 0600), `.pub` beside it the public key of a signing
purpose, `.destroyed` marks that the key is gone for good. A key file appears whole or not at all (written aside, then
linked), so any number of processes may make the first key of a purpose at once and agree on one.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

from nacl.bindings import crypto_sign_seed_keypair

from domain.errors import DomainError, ErrorCode
from domain.ports import DataKey, KeyMaterial
from integrations.keys import wrapping
from integrations.keys.purposes import DAILY, GENERATE, MANAGE, PUBLIC, SIGNING
from integrations.settings import Settings

_PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,31}(?:/[a-z][a-z0-9-]{0,31}){0,3}")
_KEY_ID = re.compile(rf"(?P<purpose>{_PURPOSE.pattern})/(?P<date>\d{{4}}-\d{{2}}-\d{{2}})/(?P<number>[1-9]\d{{0,5}})")
_UNWRITABLE = "the key folder cannot be written"
_KEY, _PUB, _DESTROYED = ".key", ".pub", ".destroyed"


def utc_today() -> date:
    """Return today's date in UTC."""
    return datetime.now(UTC).date()


def parse_key_id(key_id: str) -> tuple[str, date, int]:
    """Return purpose, date and number of a key id such as `in-flight/eu/2026-11-23/1`.

    Raises:
        DomainError: `key_unavailable`; this is no key id.
    """
    found = _KEY_ID.fullmatch(key_id)
    if found is None:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, "not a key id")
    try:
        return found["purpose"], date.fromisoformat(found["date"]), int(found["number"])
    except ValueError as error:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, "not a key id") from error


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


class FileKms:
    """Implements `KeyManagement`; a process may use the purposes in `allowed` (and those under them) only.

    Nothing is cached, so that a destroyed key is gone for everyone at once; callers keep what they use often.
    """

    def __init__(self, folder: Path, allowed: frozenset[str], *, today: Callable[[], date] = utc_today) -> None:
        self._folder = folder
        self._allowed = allowed
        self._today = today

    async def current(self, purpose: str) -> KeyMaterial:
        """Return the newest key of a purpose (of a daily one: today's), made on first use."""
        self._permit(purpose)
        return await asyncio.to_thread(self._current, purpose)

    async def by_id(self, key_id: str) -> KeyMaterial:
        """Return a key by its id."""
        purpose, _, _ = parse_key_id(key_id)
        self._permit(purpose)
        return await asyncio.to_thread(self._read, key_id)

    async def public_keys(self, purpose: str) -> dict[str, bytes]:
        """Return the Ed25519 public keys of a signing purpose by key id, newest last; destroyed ones are left out."""
        if purpose not in SIGNING:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"{purpose} has no public keys")
        self._permit(purpose, PUBLIC)
        return await asyncio.to_thread(self._public_keys, purpose)

    async def key_ids(self, purpose: str) -> tuple[str, ...]:
        """Return the ids of the keys that still exist, oldest first."""
        self._permit(purpose, MANAGE)
        return tuple(key_id for key_id, alive in await asyncio.to_thread(self._list, purpose) if alive)

    async def rotate(self, purpose: str) -> KeyMaterial:
        """Make a new current key; earlier ones stay readable until destroyed.

        With the permission `manage:` alone, its secret is left empty.
        """
        self._permit(purpose, MANAGE)
        made = await asyncio.to_thread(self._create, purpose)
        return made if self._permits(purpose) else KeyMaterial(made.key_id, b"")

    async def destroy(self, key_id: str) -> None:
        """Destroy a key for good and leave a tombstone; safe to repeat."""
        purpose, _, _ = parse_key_id(key_id)
        self._permit(purpose, MANAGE)
        await asyncio.to_thread(self._destroy, key_id)

    async def generate_data_key(self, purpose: str, context: str) -> DataKey:
        """Return a fresh wrapped data key; with the permission `generate:` alone, its plaintext is left empty."""
        self._permit(purpose, GENERATE)
        key = await asyncio.to_thread(self._current, purpose)
        plaintext = secrets.token_bytes(wrapping.KEY_BYTES)
        wrapped = wrapping.wrap(key.key_id, key.secret, plaintext, context)
        return DataKey(plaintext=plaintext if self._permits(purpose) else b"", wrapped=wrapped)

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Return the plaintext of a wrapped data key; needs the purpose that wrapped it."""
        key = await self.by_id(wrapping.key_id_of(wrapped))
        return wrapping.unwrap(wrapped, key.secret, context)

    async def rewrap(self, wrapped: bytes, context: str) -> bytes:
        """Return the same data key under the newest version of the key that wrapped it; unchanged where that is it."""
        purpose, _, _ = parse_key_id(wrapping.key_id_of(wrapped))
        self._permit(purpose, MANAGE)
        newest = await asyncio.to_thread(self._current, purpose)
        if newest.key_id == wrapping.key_id_of(wrapped):
            return wrapped
        old = await asyncio.to_thread(self._read, wrapping.key_id_of(wrapped))
        return wrapping.wrap(newest.key_id, newest.secret, wrapping.unwrap(wrapped, old.secret, context), context)

    def _permits(self, purpose: str, capability: str = "") -> bool:
        parts = purpose.split("/")
        paths = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        return any(path in self._allowed or (capability and capability + path in self._allowed) for path in paths)

    def _permit(self, purpose: str, capability: str = "") -> None:
        if _PURPOSE.fullmatch(purpose) is None or not self._permits(purpose, capability):
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"this process may not use keys of {purpose[:80]}")

    def _current(self, purpose: str) -> KeyMaterial:
        newest = max(self._list(purpose), key=lambda entry: parse_key_id(entry[0])[1:], default=None)
        if newest is None or not newest[1]:
            return self._create(purpose, first=newest is None)
        if purpose.split("/", maxsplit=1)[0] == DAILY and parse_key_id(newest[0])[1] < self._today():
            return self._create(purpose, first=True)
        return self._read(newest[0])

    def _list(self, purpose: str) -> list[tuple[str, bool]]:
        """Every key id of a purpose, oldest first, and whether its key still exists."""
        folder = self._folder / purpose
        files = {path.relative_to(folder).as_posix() for path in folder.glob("????-??-??/*")}
        names = {name.rsplit(".", 1)[0] for name in files if name.endswith((_KEY, _DESTROYED))}
        ids = [f"{purpose}/{name}" for name in names if _KEY_ID.fullmatch(f"{purpose}/{name}")]
        ids.sort(key=lambda key_id: parse_key_id(key_id)[1:])
        return [(key_id, f"{key_id[len(purpose) + 1 :]}{_DESTROYED}" not in files) for key_id in ids]

    def _create(self, purpose: str, *, first: bool = False) -> KeyMaterial:
        """Make a key; with `first`, whoever comes second on that day gets the one that was made."""
        today = self._today().isoformat()
        taken = [parse_key_id(key_id) for key_id, _ in self._list(purpose)]
        number = 1 + max((number for _, day, number in taken if day.isoformat() == today), default=0)
        if first and number > 1:
            return self._current_of_day(purpose, today)
        while True:
            key_id = f"{purpose}/{today}/{number}"
            try:
                return self._write_pair(key_id, purpose)
            except FileExistsError:
                if first:
                    return self._current_of_day(purpose, today)
                number += 1

    def _current_of_day(self, purpose: str, day: str) -> KeyMaterial:
        alive = [key_id for key_id, alive in self._list(purpose) if alive and f"/{day}/" in key_id]
        return self._read(alive[-1]) if alive else self._create(purpose)

    def _write_pair(self, key_id: str, purpose: str) -> KeyMaterial:
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
        if purpose in SIGNING:
            with _unwritable():
                self._publish(path, secret)
        return KeyMaterial(key_id, secret)

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

    def _read(self, key_id: str) -> KeyMaterial:
        path = self._folder / key_id
        if path.with_name(path.name + _DESTROYED).exists():
            raise DomainError(ErrorCode.KEY_DESTROYED, key_id)
        try:
            secret = path.with_name(path.name + _KEY).read_bytes()
        except OSError as error:
            if path.with_name(path.name + _DESTROYED).exists():
                raise DomainError(ErrorCode.KEY_DESTROYED, key_id) from error
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"no key {key_id}") from error
        if len(secret) != wrapping.KEY_BYTES:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"the file of {key_id} is not a key")
        if parse_key_id(key_id)[0] in SIGNING and not path.with_name(path.name + _PUB).exists():
            self._publish(path, secret)  # its maker died between the two files
        return KeyMaterial(key_id, secret)

    def _public_keys(self, purpose: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for key_id, alive in self._list(purpose):
            path = self._folder / f"{key_id}{_PUB}"
            with suppress(FileNotFoundError):  # not published yet, or destroyed just now
                if alive:
                    found[key_id] = path.read_bytes()
        return found

    def _destroy(self, key_id: str) -> None:
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


def open_keys(settings: Settings, *allowed: str) -> FileKms:
    """Return the key management service of a process that may use these purposes.

    Raises:
        LookupError: the settings name no folder of keys.
    """
    if settings.keys_folder is None:
        raise LookupError("COMITIA_KEYS_FOLDER is not set")
    return FileKms(settings.keys_folder, frozenset(allowed))
