"""The staff of a cell: the first administrator is made once, and the last one cannot be disabled.

Whoever is on the rolls of two cells would be two members of staff, who can agree with each other: so all cells are
asked before a login is added to one, by one at a time. For the same reason a person of the identity provider, where it
names persons, is one member, whatever accounts they have there.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import asyncpg

from domain.accounts import KeyedHash, LookupKind
from domain.audit import AuditEntry, AuditKind, actor_of
from domain.errors import ErrorCode
from domain.staff import DisabledStaff, OnAnotherRollError, StaffMember
from domain.tokens import Role
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_ADD = """
INSERT INTO identity.staff (staff_id, roles, first) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING true
"""
_KNOWN = "SELECT first FROM identity.staff WHERE staff_id = $1"
_LOG_IN = """
INSERT INTO identity.staff_login AS found (kind, key_id, digest, staff_id)
SELECT DISTINCT $1, key_id, digest, $4 FROM unnest($2::text[], $3::bytea[]) AS wanted (key_id, digest)
ORDER BY key_id, digest
ON CONFLICT ON CONSTRAINT pk_staff_login DO UPDATE SET staff_id = found.staff_id
RETURNING staff_id
"""
_CHANGED = "INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, $2, $3, $4)"
_FIND = """
SELECT staff_id, roles, false AS disabled FROM identity.staff JOIN identity.staff_login USING (staff_id)
WHERE kind = $1 AND (key_id, digest) IN (SELECT * FROM unnest($2::text[], $3::bytea[])) AND disabled_at IS NULL
LIMIT 1
"""
_GET = "SELECT staff_id, roles, disabled_at IS NOT NULL AS disabled FROM identity.staff WHERE staff_id = $1"
# Every administrator is locked, in order: of two who disable each other at once the second finds one left.
_ADMINISTRATORS = """
SELECT staff_id FROM identity.staff WHERE disabled_at IS NULL AND 'admin' = ANY (roles) ORDER BY staff_id FOR UPDATE
"""
_DISABLE = """
UPDATE identity.staff SET disabled_at = now() WHERE staff_id = $1 AND disabled_at IS NULL RETURNING true
"""
_LOG_OUT = "DELETE FROM identity.staff_login WHERE staff_id = $1"
_ONE_AT_A_TIME = """
SET LOCAL lock_timeout = '5s';
SET LOCAL idle_in_transaction_session_timeout = '30s'; -- it waits for other cells
SELECT pg_advisory_xact_lock(hashtext('comitia staff'));
"""


class _TakenError(Exception):
    """Somebody else has it; ends the transaction."""


@dataclass(frozen=True, slots=True)
class _Logins:
    """What somebody is added with: a login, and the person whose it is, which is kept like a login."""

    kind: LookupKind
    login: Sequence[KeyedHash]
    person: Sequence[KeyedHash]

    @property
    def rows(self) -> list[tuple[LookupKind, list[str], list[bytes]]]:
        """The kind of each that is given, its keys and its digests."""
        given = [(self.kind, self.login), (LookupKind.LOGIN, self.person)]
        return [(kind, [one.key_id for one in of], [one.digest for one in of]) for kind, of in given if of]


class PostgresStaffAccounts:
    """Implements `StaffAccounts`; made for `comitia_staffing`, and for finding members for `comitia_identity`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def bootstrap(
        self,
        staff_id: str,
        kind: LookupKind,
        login: Sequence[KeyedHash],
        actor: str,
        *,
        person: Sequence[KeyedHash] = (),
    ) -> bool:
        """Add the first administrator; False where there was one before, or somebody else is the person."""
        return await self._add(staff_id, {Role.ADMIN}, _Logins(kind, login, person), actor, first=True)

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
        """Add a member of staff; False where another one has the login, or is the person."""
        return await self._add(staff_id, roles, _Logins(kind, login, person), actor, first=False)

    async def _add(
        self, staff_id: str, roles: AbstractSet[Role], logins: "_Logins", actor: str, *, first: bool
    ) -> bool:
        names = sorted(roles)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            try:
                async with acknowledged(self._pool) as connection:
                    if await connection.fetchval(_ADD, staff_id, names, first) is None:
                        return await connection.fetchval(_KNOWN, staff_id) is first
                    holders = [
                        holder for each in logins.rows for holder in await connection.fetch(_LOG_IN, *each, staff_id)
                    ]
                    if any(row["staff_id"] != staff_id for row in holders):
                        raise _TakenError
                    await connection.execute(_CHANGED, staff_id, "staff_added", ",".join(names), actor)
                    await append(
                        connection,
                        AuditEntry(AuditKind.STAFF_ADDED, actor_of(actor), staff_id, outcome=",".join(names)),
                    )
            except _TakenError:
                return False
        return True

    async def disable(self, staff_id: str, actor: str) -> DisabledStaff:
        """Let a member of staff log in no more, and free the login."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                administrators = [row["staff_id"] for row in await connection.fetch(_ADMINISTRATORS)]
                if administrators == [staff_id]:
                    return DisabledStaff.LAST_ADMINISTRATOR
                if await connection.fetchval(_DISABLE, staff_id):
                    await connection.execute(_LOG_OUT, staff_id)
                    await connection.execute(_CHANGED, staff_id, "staff_disabled", "", actor)
                    await append(connection, AuditEntry(AuditKind.STAFF_DISABLED, actor_of(actor), staff_id))
                    return DisabledStaff.DISABLED
                known = await connection.fetchval(_KNOWN, staff_id) is not None
        return DisabledStaff.DISABLED if known else DisabledStaff.UNKNOWN

    async def find(self, kind: LookupKind, login: Sequence[KeyedHash]) -> StaffMember | None:
        """Return who logs in with this and is not disabled, or None."""
        keys, digests = [value.key_id for value in login], [value.digest for value in login]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_FIND, kind, keys, digests)
        return None if row is None else _member(row)

    async def get(self, staff_id: str) -> StaffMember | None:
        """Return a member of staff, also a disabled one, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_GET, staff_id)
        return None if row is None else _member(row)


class StaffRolls:
    """The rolls of all cells, of which a login is on one."""

    def __init__(self, pools: Mapping[str, asyncpg.Pool]) -> None:
        """Take connections to every cell, two of each at least."""
        self._pools = pools

    async def add(
        self,
        cell: str,
        kind: LookupKind,
        login: Sequence[KeyedHash],
        add: Callable[[PostgresStaffAccounts], Awaitable[bool]],
        *,
        person: Sequence[KeyedHash] = (),
    ) -> bool:
        """Have somebody added to the roll of a cell; return what `add` says. Safe to repeat as that is.

        Raises:
            OnAnotherRollError: another cell's roll has the login, or the person.
            DomainError: `directory_unavailable`, also where another cell is away: nobody can tell then.
        """
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            # The first cell is where all wait for their turn, whichever they add to
            async with self._pools[min(self._pools)].acquire() as connection, connection.transaction():
                await connection.execute(_ONE_AT_A_TIME)
                for name in sorted(self._pools.keys() - {cell}):
                    there = PostgresStaffAccounts(self._pools[name])
                    if await there.find(kind, login) is not None:
                        raise OnAnotherRollError(f"{name} has this login on its roll: everybody is on one")
                    if person and await there.find(LookupKind.LOGIN, person) is not None:
                        raise OnAnotherRollError(f"{name} has this person on its roll: everybody is on one")
                return await add(PostgresStaffAccounts(self._pools[cell]))


def _member(row: asyncpg.Record) -> StaffMember:
    return StaffMember(row["staff_id"], frozenset(Role(role) for role in row["roles"]), row["disabled"])
