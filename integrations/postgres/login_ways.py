"""The ways into the accounts of one cell, changed under the lock of the account, so that the last one stays."""

import uuid
from collections.abc import Sequence

import asyncpg

from domain.accounts import KeyedHash
from domain.errors import DomainError, ErrorCode
from domain.login_ways import LINK_BEGUN_FOR, ProviderLink
from domain.mailing import MessageKind
from domain.sessions import MAY_LOG_IN
from integrations.postgres.account_notices import NOTE_NOTICE
from integrations.postgres.accounts import ACTOR
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as
from integrations.postgres.open_sessions import require_open

_LOCK = "SELECT status FROM identity.voter WHERE voter_id = $1 FOR UPDATE"
_AT_PROVIDER = "voter_id = $1 AND kind = 'login' AND provider = $2"
_HELD = f"SELECT key_id, digest, linked_at FROM identity.lookup WHERE {_AT_PROVIDER}"  # noqa: S608 - constants, here and below
# As in `Accounts`: who comes second waits for the first and then gets to know whose it is.
_BEGIN = """
INSERT INTO identity.lookup AS found (kind, key_id, digest, voter_id, provider, begun_at)
SELECT DISTINCT 'login', key_id, digest, $1, $2, now() FROM unnest($3::text[], $4::bytea[]) AS wanted (key_id, digest)
ORDER BY key_id, digest
ON CONFLICT ON CONSTRAINT pk_lookup DO UPDATE SET voter_id = found.voter_id
RETURNING voter_id
"""
_IS_TAKEN = """
SELECT EXISTS (
    SELECT FROM identity.lookup WHERE kind = 'login' AND voter_id <> $1
        AND (key_id, digest) IN (SELECT * FROM unnest($2::text[], $3::bytea[]))
)
"""
_THIS = f"{_AT_PROVIDER} AND (key_id, digest) IN (SELECT * FROM unnest($3::text[], $4::bytea[]))"  # noqa: S608
_FINISH = f"UPDATE identity.lookup SET linked_at = now() WHERE {_THIS} AND linked_at IS NULL RETURNING true"  # noqa: S608
_IS_LINKED = f"SELECT EXISTS (SELECT FROM identity.lookup WHERE {_THIS} AND linked_at IS NOT NULL)"  # noqa: S608
_DROP = f"DELETE FROM identity.lookup WHERE {_THIS} AND linked_at IS NULL"  # noqa: S608
_DROP_ALL = f"DELETE FROM identity.lookup WHERE {_AT_PROVIDER} AND linked_at IS NULL"  # noqa: S608
_UNLINK = f"DELETE FROM identity.lookup WHERE {_AT_PROVIDER} AND linked_at IS NOT NULL RETURNING true"  # noqa: S608
_LINKS = """
SELECT provider, min(linked_at) AS linked_at FROM identity.lookup
WHERE voter_id = $1 AND kind = 'login' AND provider <> '' AND linked_at IS NOT NULL
GROUP BY provider ORDER BY linked_at, provider
"""
_REMOVE = "DELETE FROM identity.credential WHERE voter_id = $1 AND credential_id = $2 RETURNING kind"
_WAYS_LEFT = """
SELECT EXISTS (SELECT FROM identity.credential WHERE voter_id = $1 AND kind IN ('password', 'passkey'))
    OR EXISTS (
        SELECT FROM identity.lookup
        WHERE voter_id = $1 AND kind = 'login' AND (provider = '' OR linked_at IS NOT NULL)
    )
"""
_WAYS = frozenset({"password", "passkey"})
_DROP_ABANDONED = """
DELETE FROM identity.lookup WHERE provider <> '' AND linked_at IS NULL AND begun_at < now() - $1::interval
"""
_NOTE = "INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, $2, $3, $4)"


class _TakenError(Exception):
    """Another account has the login; ends the transaction."""


class PostgresLoginWays:
    """Implements `LoginWays`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def begin_link(self, voter_id: str, provider: str, login: Sequence[KeyedHash], session_id: str = "") -> bool:
        """Begin to link a login; False where another account of the cell has it or has begun."""
        keys, digests = _columns(login)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            try:
                async with acknowledged(self._pool) as connection:
                    if await connection.fetchval(_LOCK, voter_id) not in MAY_LOG_IN:
                        raise DomainError(ErrorCode.VOTER_NOT_ACTIVE)
                    await require_open(connection, voter_id, session_id)
                    held = await connection.fetch(_HELD, voter_id, provider)
                    if not set(digests) & {row["digest"] for row in held}:
                        if any(row["linked_at"] is not None for row in held):
                            raise DomainError(ErrorCode.PROVIDER_LINKED)
                        await connection.execute(_DROP_ALL, voter_id, provider)
                    holders = await connection.fetch(_BEGIN, voter_id, provider, keys, digests)
                    if any(row["voter_id"] != voter_id for row in holders):
                        raise _TakenError
            except _TakenError:
                return False
        return True

    async def is_taken(self, login: Sequence[KeyedHash], voter_id: str) -> bool:
        """Tell whether an account other than the voter's has a login, or has begun to link it."""
        keys, digests = _columns(login)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return bool(await self._pool.fetchval(_IS_TAKEN, voter_id, keys, digests))

    async def finish_link(self, voter_id: str, provider: str, login: Sequence[KeyedHash], session_id: str = "") -> bool:
        """Link a login that was begun; False where it is not begun or linked (any more)."""
        wanted = (voter_id, provider, *_columns(login))
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.fetchval(_LOCK, voter_id)
                await require_open(connection, voter_id, session_id)
                if await connection.fetch(_FINISH, *wanted):
                    await connection.execute(_NOTE, voter_id, "provider_linked", provider, ACTOR)
                    await connection.execute(NOTE_NOTICE, voter_id, MessageKind.PROVIDER_LINKED)
                    return True
                return bool(await connection.fetchval(_IS_LINKED, *wanted))

    async def drop_link(self, voter_id: str, provider: str, login: Sequence[KeyedHash]) -> None:
        """Forget a login that was begun and is not linked."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_DROP, voter_id, provider, *_columns(login))

    async def links(self, voter_id: str) -> list[ProviderLink]:
        """Return the logins at providers that are linked, oldest first."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_LINKS, voter_id)
        return [ProviderLink(row["provider"], row["linked_at"]) for row in rows]

    async def unlink(self, voter_id: str, provider: str, session_id: str = "") -> bool:
        """Let nobody log in to an account by a provider any more; False where nobody could."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.fetchval(_LOCK, voter_id)
                await require_open(connection, voter_id, session_id)
                if not await connection.fetch(_UNLINK, voter_id, provider):
                    return False
                await _refuse_last(connection, voter_id)
                await connection.execute(_NOTE, voter_id, "provider_unlinked", provider, ACTOR)
                await connection.execute(NOTE_NOTICE, voter_id, MessageKind.PROVIDER_UNLINKED)
        return True

    async def remove_credential(self, voter_id: str, credential_id: str, session_id: str = "") -> bool:
        """Remove a credential of a voter; False where there is none."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.fetchval(_LOCK, voter_id)
                await require_open(connection, voter_id, session_id)
                kind = await connection.fetchval(_REMOVE, voter_id, uuid.UUID(credential_id))
                if kind is None:
                    return False
                if kind in _WAYS:
                    await _refuse_last(connection, voter_id)
                await connection.execute(NOTE_NOTICE, voter_id, MessageKind.CREDENTIAL_REMOVED)
        return True

    async def drop_abandoned(self) -> int:
        """Forget what was begun by who then died, and return how many hashes."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_DROP_ABANDONED, LINK_BEGUN_FOR)).rpartition(" ")[2])


def _columns(login: Sequence[KeyedHash]) -> tuple[list[str], list[bytes]]:
    return [value.key_id for value in login], [value.digest for value in login]


async def _refuse_last(connection: asyncpg.pool.PoolConnectionProxy, voter_id: str) -> None:
    """Take the transaction back where it has removed the last way in."""
    if not await connection.fetchval(_WAYS_LEFT, voter_id):
        raise DomainError(ErrorCode.LAST_CREDENTIAL)
