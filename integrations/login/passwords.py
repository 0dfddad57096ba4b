"""Passwords: Argon2id, off the event loop, a few at a time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from domain.credentials import checked_password
from domain.errors import DomainError
from integrations.turns import Turns

# OWASP Password Storage Cheat Sheet, Argon2id, its first choice for servers under load: 19 MiB, two passes, one lane.
# Salt and tag as RFC 9106, section 3.1.
MEMORY_KIB: Final = 19_456
PASSES: Final = 2
LANES: Final = 1
SALT_BYTES: Final = 16
TAG_BYTES: Final = 32
AT_ONCE: Final = 4  # 76 MiB; more than the cores do not make it faster

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password is right, and the hash to keep instead where ours was made with other parameters."""

    right: bool
    rehashed: bytes | None = field(default=None, repr=False)


class Passwords:
    """Hashes and verifies passwords."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._hasher = PasswordHasher(passes, memory_kib, LANES, TAG_BYTES, SALT_BYTES, type=Type.ID)
        self._turn = Turns(AT_ONCE)
        self._nobody = self._hasher.hash("the password of nobody")

    @property
    def waiting(self) -> int:
        """How many passwords wait for their turn."""
        return self._turn.waiting

    async def hash(self, password: str) -> bytes:
        """Return the hash to keep. Raises DomainError `password_not_accepted`."""
        normal = checked_password(password)
        return (await self._in_turn(lambda: self._hasher.hash(normal))).encode("ascii")

    async def check(self, password: str, kept: bytes | None) -> PasswordCheck:
        """Tell whether a password is the one that was hashed; without a hash it takes as long, and it is not."""
        try:
            normal = checked_password(password)
        except DomainError:
            normal, kept = "", None  # no hash is of such a password, which an answer must not say sooner
        return await self._in_turn(lambda: self._check(normal, kept))

    async def _in_turn(self, work: Callable[[], Result]) -> Result:
        """Work in a thread, which nobody can stop: its turn lasts until it is done, whoever waits for it."""
        await self._turn.acquire()
        working = asyncio.ensure_future(asyncio.to_thread(work))
        working.add_done_callback(lambda _: self._turn.release())
        return await asyncio.shield(working)

    def _check(self, password: str, kept: bytes | None) -> PasswordCheck:
        hashed = self._nobody if kept is None else kept.decode("ascii", "replace")
        try:
            self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return PasswordCheck(right=False)
        if kept is None:
            return PasswordCheck(right=False)
        old = self._hasher.check_needs_rehash(hashed)
        return PasswordCheck(right=True, rehashed=self._hasher.hash(password).encode("ascii") if old else None)
