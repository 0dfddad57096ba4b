"""Credentials and sent codes of one cell, in `identity.credential` and `identity.sent_code`."""

import uuid
from collections.abc import Sequence

import asyncpg

from domain.accounts import LookupHashes, LookupKind
from domain.credentials import CODE_LIFETIME, CODE_TRIES, FREE_FAILURES, Credential, CredentialKind
from domain.errors import ErrorCode
from domain.mailing import MessageKind
from integrations.postgres.account_notices import NOTE_NOTICE
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as
from integrations.postgres.open_sessions import require_open

_COLUMNS = """credential_id, voter_id, kind, secret, counter, confirmed_at IS NOT NULL AS confirmed, failures,
    last_failed_at, created_at"""
_OF = f"SELECT {_COLUMNS} FROM identity.credential WHERE voter_id = $1 AND kind = $2 ORDER BY created_at"  # noqa: S608
_BY_HANDLE = f"SELECT {_COLUMNS} FROM identity.credential WHERE kind = $1 AND handle = $2"  # noqa: S608 - of constants
_PUT = """
INSERT INTO identity.credential (voter_id, kind, secret, handle, confirmed_at, counter)
VALUES ($1, $2, $3, $4, CASE WHEN $5 THEN now() END, $6)
"""
PUT_SINGLE = f"""{_PUT}
ON CONFLICT (voter_id, kind) WHERE kind IN ('password', 'totp') DO UPDATE SET
    credential_id = excluded.credential_id, secret = excluded.secret, confirmed_at = excluded.confirmed_at, counter = 0,
    created_at = now(), last_used_at = NULL, failures = 0, last_failed_at = NULL
RETURNING true
"""
PUT_HANDLED = f"{_PUT} ON CONFLICT (kind, handle) WHERE handle IS NOT NULL DO NOTHING RETURNING true"
_SINGLE = frozenset({CredentialKind.PASSWORD, CredentialKind.TOTP})
_SUCCEEDED = """
UPDATE identity.credential SET counter = $2, confirmed_at = coalesce(confirmed_at, now()), last_used_at = now(),
    failures = 0, last_failed_at = NULL
WHERE credential_id = $1 AND (counter < $2 OR (counter = 0 AND $2 = 0))
    AND (failures <= $3 OR kind = 'passkey') RETURNING true
"""
_FAILED = """
UPDATE identity.credential SET failures = failures + 1, last_failed_at = now() WHERE credential_id = $1
"""
_REHASH = "UPDATE identity.credential SET secret = $3 WHERE credential_id = $1 AND secret = $2"
_SPEND = """
DELETE FROM identity.credential WHERE kind = 'recovery_code' AND voter_id = $1 AND handle = $2 RETURNING true
"""
_REMOVE_CODES = "DELETE FROM identity.credential WHERE voter_id = $1 AND kind = 'recovery_code'"
_PUT_CODES = """
INSERT INTO identity.credential (voter_id, kind, secret, handle, confirmed_at)
SELECT $1, 'recovery_code', handle, handle, now() FROM unnest($2::bytea[]) AS code (handle)
"""
_REMOVE = """
WITH gone AS (
    DELETE FROM identity.credential WHERE voter_id = $1 AND ($2::uuid IS NULL OR credential_id = $2) RETURNING 1
) SELECT count(*) FROM gone
"""
_PUT_CODE = """
INSERT INTO identity.sent_code (subject, digest, expires_at) VALUES ($1, $2, now() + $3::interval)
ON CONFLICT ON CONSTRAINT pk_sent_code DO UPDATE
SET digest = excluded.digest, expires_at = excluded.expires_at, tries = 0, used_at = NULL
"""
# Counting and comparing are one statement, so that no two guesses share a try.
_REDEEM = """
UPDATE identity.sent_code SET tries = tries + 1, used_at = CASE WHEN digest = ANY ($2::bytea[]) THEN now() END
WHERE subject = $1 AND used_at IS NULL AND tries < $3 AND expires_at > now()
RETURNING used_at IS NOT NULL
"""


class PostgresCredentials:
    """Implements `Credentials`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def of(self, voter_id: str, kind: CredentialKind) -> list[Credential]:
        """Return a voter's credentials of a kind, oldest first."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return [_credential(row) for row in await self._pool.fetch(_OF, voter_id, kind)]

    async def by_handle(self, kind: CredentialKind, handle: bytes) -> Credential | None:
        """Return the credential with a handle of 32 bytes, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_BY_HANDLE, kind, handle)
        return None if row is None else _credential(row)

    async def put(
        self,
        voter_id: str,
        kind: CredentialKind,
        secret: bytes,
        *,
        handle: bytes | None = None,
        counter: int = 0,
        confirmed: bool = True,
        notice: MessageKind | None = None,
        session_id: str = "",
    ) -> bool:
        """Add a credential, or replace the one password or authenticator app; False where the handle is taken."""
        statement = PUT_SINGLE if kind in _SINGLE else PUT_HANDLED
        row = (voter_id, kind, secret, handle, confirmed, counter)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await require_open(connection, voter_id, session_id)
                is_kept = await connection.fetchval(statement, *row) is not None
                if is_kept and notice is not None:
                    await connection.execute(NOTE_NOTICE, voter_id, notice)
        return is_kept

    async def succeeded(self, credential: Credential, counter: int, session_id: str = "") -> bool:
        """Note a success once per `counter`; `Credentials.succeeded` says the rest."""
        failures = max(credential.failures, FREE_FAILURES)
        success = (_SUCCEEDED, uuid.UUID(credential.credential_id), counter, failures)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            if not session_id:
                return await self._pool.fetchval(*success) is not None
            async with acknowledged(self._pool) as connection:
                await require_open(connection, credential.voter_id, session_id)
                return await connection.fetchval(*success) is not None

    async def failed(self, credential: Credential) -> None:
        """Count a failure."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            await self._pool.execute(_FAILED, uuid.UUID(credential.credential_id))

    async def rehash(self, credential: Credential, secret: bytes) -> None:
        """Replace a password's hash by one of the same password, unless it has changed since."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            await self._pool.execute(_REHASH, uuid.UUID(credential.credential_id), credential.secret, secret)

    async def spend(self, voter_id: str, handle: bytes) -> bool:
        """Use up a recovery code; False where there is none of this voter."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return await self._pool.fetchval(_SPEND, voter_id, handle) is not None

    async def replace_recovery_codes(self, voter_id: str, handles: Sequence[bytes], session_id: str = "") -> None:
        """Keep recovery codes in place of all that there were."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await require_open(connection, voter_id, session_id)
                await connection.execute(_REMOVE_CODES, voter_id)
                await connection.execute(_PUT_CODES, voter_id, handles)
                await connection.execute(NOTE_NOTICE, voter_id, MessageKind.RECOVERY_CODES_CHANGED)

    async def remove(self, voter_id: str, credential_id: str = "") -> int:
        """Remove one credential of a voter, or all of them; return how many there were."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            wanted = uuid.UUID(credential_id) if credential_id else None
            return int(await self._pool.fetchval(_REMOVE, voter_id, wanted))


class PostgresSentCodes:
    """Implements `SentCodes`; needs the purpose `lookup`."""

    def __init__(self, pool: asyncpg.Pool, hashes: LookupHashes) -> None:
        self._pool = pool
        self._hashes = hashes

    async def put(self, subject: str, code: str) -> None:
        """Keep a code's keyed hash for ten minutes in place of the one before, with five tries."""
        digest = (await self._hashes.newest(LookupKind.CODE, f"{subject} {code}")).digest
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            await self._pool.execute(_PUT_CODE, subject, digest, CODE_LIFETIME)

    async def redeem(self, subject: str, code: str) -> bool:
        """Tell whether this is the code, once; a wrong one is a try less."""
        hashes = await self._hashes.every(LookupKind.CODE, f"{subject} {code}")
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            found = await self._pool.fetchval(_REDEEM, subject, [each.digest for each in hashes], CODE_TRIES)
        return bool(found)


def _credential(row: asyncpg.Record) -> Credential:
    return Credential(
        credential_id=str(row["credential_id"]),
        voter_id=row["voter_id"],
        kind=CredentialKind(row["kind"]),
        secret=row["secret"],
        counter=row["counter"],
        confirmed=row["confirmed"],
        failures=row["failures"],
        last_failed_at=row["last_failed_at"],
        created_at=row["created_at"],
    )
