"""What every key management service does alike: who may use which keys, which is current, and how keys wrap others."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

from domain.errors import DomainError, ErrorCode
from domain.ports import DataKey, KeyMaterial
from integrations.keys import wrapping
from integrations.keys.key_ids import PURPOSE, is_key_of, parse_key_id
from integrations.keys.purposes import DAILY, GENERATE, MANAGE, PUBLIC, SIGNING

_T = TypeVar("_T")


def utc_today() -> date:
    """Return today's date in UTC."""
    return datetime.now(UTC).date()


class KeyPlace(Protocol):
    """Where keys are kept. Its calls block, and run in threads; all raise DomainError `key_unavailable`."""

    def ids(self, purpose: str) -> Mapping[str, bool]:
        """Return every id of a purpose, and whether its key still exists."""
        ...

    def make(self, key_id: str) -> KeyMaterial:
        """Make a key, of a signing purpose with its public key.

        Raises:
            FileExistsError: the id is taken, also where the key was destroyed.
        """
        ...

    def read(self, key_id: str) -> KeyMaterial:
        """Return a key; raises DomainError `key_destroyed` once it was."""
        ...

    def public_keys(self, key_ids: Iterable[str]) -> dict[str, bytes]:
        """Return the public keys of these ids, in their order; those that are not there are left out."""
        ...

    def destroy(self, key_id: str) -> None:
        """Destroy a key for good, so that its id stays taken; safe to repeat."""
        ...


class KeyService:
    """Implements `KeyManagement`; a process may use the purposes in `allowed` (and those under them) only."""

    def __init__(self, place: KeyPlace, allowed: frozenset[str], *, today: Callable[[], date] = utc_today) -> None:
        self._place = place
        self._allowed = allowed
        self._today = today

    async def current(self, purpose: str) -> KeyMaterial:
        """Return the newest key of a purpose (of a daily one: today's), made on first use."""
        self._permit(purpose)
        return await self._do(self._current, purpose)

    async def by_id(self, key_id: str) -> KeyMaterial:
        """Return a key by its id."""
        purpose, _, _ = parse_key_id(key_id)
        self._permit(purpose)
        return await self._do(self._place.read, key_id)

    async def public_keys(self, purpose: str) -> dict[str, bytes]:
        """Return the Ed25519 public keys of a signing purpose by key id, newest last; destroyed ones are left out."""
        if purpose not in SIGNING:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"{purpose} has no public keys")
        self._permit(purpose, PUBLIC)
        return await self._do(self._public_keys, purpose)

    async def key_ids(self, purpose: str) -> tuple[str, ...]:
        """Return the ids of the keys that still exist, oldest first."""
        self._permit(purpose, MANAGE)
        return tuple(key_id for key_id, alive in await self._do(self._list, purpose) if alive)

    async def rotate(self, purpose: str) -> KeyMaterial:
        """Make a new current key; earlier ones stay readable until destroyed.

        With the permission `manage:` alone, its secret is left empty.
        """
        self._permit(purpose, MANAGE)
        made = await self._do(self._create, purpose)
        return made if self._permits(purpose) else KeyMaterial(made.key_id, b"")

    async def destroy(self, key_id: str) -> None:
        """Destroy a key for good and leave a tombstone; safe to repeat."""
        purpose, _, _ = parse_key_id(key_id)
        self._permit(purpose, MANAGE)
        await self._do(self._place.destroy, key_id)

    async def generate_data_key(self, purpose: str, context: str) -> DataKey:
        """Return a fresh wrapped data key; with the permission `generate:` alone, its plaintext is left empty."""
        self._permit(purpose, GENERATE)
        key = await self._do(self._current, purpose)
        plaintext = secrets.token_bytes(wrapping.KEY_BYTES)
        wrapped = wrapping.wrap(key.key_id, key.secret, plaintext, context)
        return DataKey(plaintext=plaintext if self._permits(purpose) else b"", wrapped=wrapped)

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Return the plaintext of a wrapped data key; needs the purpose that wrapped it."""
        key = await self.by_id(wrapping.key_id_of(wrapped))
        return wrapping.unwrap(wrapped, key.secret, context)

    async def rewrap(self, wrapped: bytes, context: str) -> bytes:
        """Return the same data key under the newest version of the key that wrapped it; unchanged where that is it."""
        key_id = wrapping.key_id_of(wrapped)
        purpose, _, _ = parse_key_id(key_id)
        self._permit(purpose, MANAGE)
        newest = await self._do(self._current, purpose)
        if newest.key_id == key_id:
            return wrapped
        old = await self._do(self._place.read, key_id)
        return wrapping.wrap(newest.key_id, newest.secret, wrapping.unwrap(wrapped, old.secret, context), context)

    async def _do(self, call: Callable[[str], _T], argument: str) -> _T:
        return await asyncio.to_thread(call, argument)

    def _permits(self, purpose: str, capability: str = "") -> bool:
        parts = purpose.split("/")
        paths = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        return any(path in self._allowed or (capability and capability + path in self._allowed) for path in paths)

    def _permit(self, purpose: str, capability: str = "") -> None:
        if PURPOSE.fullmatch(purpose) is None or not self._permits(purpose, capability):
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"this process may not use keys of {purpose[:80]}")

    def _current(self, purpose: str) -> KeyMaterial:
        found = self._list(purpose)
        if not found or not found[-1][1]:
            return self._create(purpose, first=not found)
        newest, _ = found[-1]
        if purpose.split("/", maxsplit=1)[0] == DAILY and parse_key_id(newest)[1] < self._today():
            return self._create(purpose, first=True)
        return self._place.read(newest)

    def _list(self, purpose: str) -> list[tuple[str, bool]]:
        """Every key id of a purpose, oldest first, and whether its key still exists."""
        found = [(key_id, alive) for key_id, alive in self._place.ids(purpose).items() if is_key_of(key_id, purpose)]
        return sorted(found, key=lambda entry: parse_key_id(entry[0])[1:])

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
                return self._place.make(key_id)
            except FileExistsError:
                if first:
                    return self._current_of_day(purpose, today)
                number += 1

    def _current_of_day(self, purpose: str, day: str) -> KeyMaterial:
        alive = [key_id for key_id, alive in self._list(purpose) if alive and f"/{day}/" in key_id]
        return self._place.read(alive[-1]) if alive else self._create(purpose)

    def _public_keys(self, purpose: str) -> dict[str, bytes]:
        return self._place.public_keys(key_id for key_id, alive in self._list(purpose) if alive)
