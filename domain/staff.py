"""Staff: who may use internal routes, by what login, and with which roles."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from domain.accounts import KeyedHash, LookupKind
from domain.tokens import Role


@dataclass(frozen=True, slots=True)
class StaffMember:
    """A member of staff; `disabled` ones log in no more."""

    staff_id: str
    roles: frozenset[Role]
    disabled: bool = False


class DisabledStaff(StrEnum):
    """What came of disabling a member of staff."""

    DISABLED = "disabled"
    UNKNOWN = "unknown"
    LAST_ADMINISTRATOR = "last_administrator"  # somebody has to be left who can add another


class OnAnotherRollError(LookupError):
    """Another cell has this login on its roll; says which."""


class StaffAccounts(Protocol):
    """The staff of one cell. A login is given by every hash (`LookupHashes.every`), `actor` says who does it.

    So is the person whose it is, where the identity provider says that: nobody else is added with it.

    All calls raise DomainError `directory_unavailable`.
    """

    async def bootstrap(
        self,
        staff_id: str,
        kind: LookupKind,
        login: Sequence[KeyedHash],
        actor: str,
        *,
        person: Sequence[KeyedHash] = (),
    ) -> bool:
        """Add the first administrator; False where there was one before, also a disabled one.

        Safe to repeat with the same id.
        """
        ...

    async def add(
        self,
        staff_id: str,
        roles: AbstractSet[Role],
        kind: LookupKind,
        login: Sequence[KeyedHash],
        actor: str,
        *,
        person: Sequence[KeyedHash] = (),
    ) -> bool:
        """Add a member of staff; False where another one has the login, or is the person. Safe to repeat."""
        ...

    async def disable(self, staff_id: str, actor: str) -> DisabledStaff:
        """Let a member of staff log in no more, and free the login. Safe to repeat."""
        ...

    async def find(self, kind: LookupKind, login: Sequence[KeyedHash]) -> StaffMember | None:
        """Return who logs in with this and is not disabled, or None."""
        ...

    async def get(self, staff_id: str) -> StaffMember | None:
        """Return a member of staff, also a disabled one, or None."""
        ...
