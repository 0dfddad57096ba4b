"""Links by which accounts of one cell are recovered: used in one transaction with everything that follows."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from domain.accounts import KeyedHash
from domain.audit import AuditEntry, AuditKind
from domain.credentials import CredentialKind, NewPasskey
from domain.errors import DomainError, ErrorCode
from domain.recovery import DOUBTED_FOR, LINK_LIFETIME, Recoverable, Recovered, recovery_token_hash
from domain.sessions import EndReason
from integrations.postgres.accounts import ACTOR
from integrations.postgres.audit_entries import append
from integrations.postgres.credentials import PUT_HANDLED, PUT_SINGLE
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as
from integrations.postgres.unopened_logins import end_unopened_logins

_KEPT = timedelta(days=1)

# A login at a provider that is in doubt sends nobody there: a thief who links one, and removes the rest, would keep the
# account's owner out of it.
_FIND = """
SELECT voter_id,
    EXISTS (
        SELECT FROM identity.lookup
        WHERE lookup.voter_id = voter.voter_id AND kind = 'login'
            AND (provider = '' OR linked_at <= now() - $3::interval)
    ) AND NOT EXISTS (
        SELECT FROM identity.credential
        WHERE credential.voter_id = voter.voter_id AND credential.kind IN ('password', 'passkey')
    ) AS at_provider
FROM identity.lookup AS found JOIN identity.voter USING (voter_id)
WHERE found.kind = 'mail' AND (found.key_id, found.digest) IN (SELECT * FROM unnest($1::text[], $2::bytea[]))
    AND status IN ('registered', 'active')
LIMIT 1
"""
_BEGIN = """
INSERT INTO identity.recovery (request_id, voter_id, token_hash, asked_at, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::interval)
ON CONFLICT ON CONSTRAINT pk_recovery DO NOTHING
"""
# The account is locked with its link, so that closing it, recovering it and opening a session of it take turns.
_GOOD = """
FROM identity.recovery AS link JOIN identity.voter USING (voter_id)
WHERE token_hash = $1 AND used_at IS NULL AND expires_at > now() AND status IN ('registered', 'active')
    AND NOT EXISTS (
        SELECT FROM identity.recovery AS newer WHERE newer.voter_id = link.voter_id AND newer.asked_at > link.asked_at
    )
"""
_VOTER_OF = f"SELECT voter_id {_GOOD}"
_LOCK = f"SELECT request_id, voter_id {_GOOD} FOR UPDATE OF link, voter"
_USE = "UPDATE identity.recovery SET used_at = now() WHERE request_id = $1"
_END_SESSIONS = """
UPDATE identity.session SET ended_at = clock_timestamp(), end_reason = $2
WHERE voter_id = $1 AND ended_at IS NULL RETURNING session_id
"""
# What somebody else may know, and what somebody else may have added. The password is no addition, and not counted; of
# recovery codes, which are made together, all count as one.
_REMOVE_DOUBTED = """
WITH password AS (
    DELETE FROM identity.credential WHERE voter_id = $1 AND kind = 'password'
), passkeys AS (
    DELETE FROM identity.credential WHERE voter_id = $1 AND kind = 'passkey' AND created_at > now() - $2::interval
    RETURNING 1
), codes AS (
    DELETE FROM identity.credential WHERE voter_id = $1 AND kind = 'recovery_code' AND created_at > now() - $2::interval
    RETURNING kind
), links AS (
    DELETE FROM identity.lookup WHERE voter_id = $1 AND kind = 'login' AND provider <> ''
        AND (linked_at IS NULL OR linked_at > now() - $2::interval)
    RETURNING provider
)
SELECT (SELECT count(*) FROM passkeys) + (SELECT count(DISTINCT kind) FROM codes)
    + (SELECT count(DISTINCT provider) FROM links)
"""
# The next login is from a device that is not known, wherever it is from: a further factor is asked for.
_FORGET_DEVICES = "DELETE FROM identity.device_sighting WHERE voter_id = $1"
_NOTE = "INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, 'account_recovered', $2, $3)"
_IS_USED = "SELECT EXISTS (SELECT FROM identity.recovery WHERE request_id = $1 AND used_at IS NOT NULL)"
_CANCEL = "UPDATE identity.recovery SET expires_at = least(expires_at, now()) WHERE request_id = $1 AND used_at IS NULL"
_FORGET_OLDER = "DELETE FROM identity.recovery WHERE expires_at < now() - $1::interval"


class PostgresAccountRecoveries:
    """Implements `AccountRecoveries`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def find(self, mail: Sequence[KeyedHash]) -> Recoverable | None:
        """Return the account of an address, where there is one that may log in."""
        keys, digests = [each.key_id for each in mail], [each.digest for each in mail]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_FIND, keys, digests, DOUBTED_FOR)
        return None if row is None else Recoverable(row["voter_id"], row["at_provider"])

    async def begin(self, request_id: str, voter_id: str, token: str, asked_at: datetime) -> None:
        """Keep a link's hash; those that were asked for before are not good any more."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                row = (request_id, voter_id, recovery_token_hash(token), asked_at, LINK_LIFETIME)
                await connection.execute(_BEGIN, *row)

    async def voter_of(self, token: str) -> str:
        """Return the voter whose link this is, or an empty text."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return await self._pool.fetchval(_VOTER_OF, recovery_token_hash(token)) or ""

    async def finish(
        self, token: str, password: bytes | None = None, passkey: NewPasskey | None = None
    ) -> Recovered | None:
        """Use a link, once; of two who bring it at once the second finds it used."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                link = await connection.fetchrow(_LOCK, recovery_token_hash(token))
                if link is None:
                    return None
                voter_id = link["voter_id"]
                await connection.execute(_USE, link["request_id"])
                await end_unopened_logins(connection, voter_id)
                ended = await connection.fetch(_END_SESSIONS, voter_id, EndReason.RECOVERED)
                removed = await connection.fetchval(_REMOVE_DOUBTED, voter_id, DOUBTED_FOR)
                await _keep(connection, voter_id, password, passkey)
                await connection.execute(_FORGET_DEVICES, voter_id)
                await connection.execute(_NOTE, voter_id, f"removed={removed}", ACTOR)
                await append(connection, _recovered(link["request_id"], len(ended)))
        return Recovered(link["request_id"], voter_id, tuple(each["session_id"] for each in ended), removed)

    async def cancel(self, request_id: str) -> None:
        """Let the link of a request be good no more, unless it was used."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_CANCEL, request_id)

    async def is_used(self, request_id: str) -> bool:
        """Tell whether the link of a request was used."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return bool(await self._pool.fetchval(_IS_USED, request_id))

    async def forget_older(self) -> int:
        """Forget links that expired a day ago, and return how many."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_FORGET_OLDER, _KEPT)).rpartition(" ")[2])


def _recovered(request_id: str, sessions_ended: int) -> AuditEntry:
    return AuditEntry(
        AuditKind.ACCOUNT_RECOVERED, "process:recover-account", request_id, facts={"sessionsEnded": sessions_ended}
    )


async def _keep(
    connection: asyncpg.pool.PoolConnectionProxy, voter_id: str, password: bytes | None, passkey: NewPasskey | None
) -> None:
    """Keep what the account is logged in to with from now on."""
    if password is not None:
        row = (voter_id, CredentialKind.PASSWORD, password, None, True, 0)
        await connection.fetchval(PUT_SINGLE, *row)
    if passkey is not None:
        made = (voter_id, CredentialKind.PASSKEY, passkey.sealed, passkey.handle, True, passkey.counter)
        if await connection.fetchval(PUT_HANDLED, *made) is None:
            raise DomainError(ErrorCode.PASSKEY_NOT_ACCEPTED)
