"""Deletions of accounts in one cell: each step is one transaction, which notes that it is done."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg

from domain.account_ends import Deletion, DeletionStage
from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.sessions import EndReason
from integrations.postgres.accounts import ACTOR
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_COLUMNS = """deletion_id, voter_id, stage, requested_at, completed_at, sessions_ended, cases_erased, devices_erased,
    credentials_removed"""
_REQUEST = f"""
INSERT INTO identity.account_deletion AS found (deletion_id, voter_id) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT uq_account_deletion_voter DO UPDATE SET stage = found.stage
RETURNING {_COLUMNS}, xmax = 0 AS is_new
"""  # noqa: S608 - constants, here and below
_GET = f"SELECT {_COLUMNS} FROM identity.account_deletion WHERE deletion_id = $1"  # noqa: S608
_LOCK = f"{_GET} FOR UPDATE"
_UNSTARTED = f"""
SELECT {_COLUMNS} FROM identity.account_deletion WHERE stage = 'requested' AND requested_at < $1
ORDER BY requested_at LIMIT $2
"""  # noqa: S608
_UNFINISHED = f"""
SELECT {_COLUMNS} FROM identity.account_deletion
WHERE stage <> 'completed' AND requested_at < $1 AND deletion_id > $2 ORDER BY deletion_id LIMIT $3
"""  # noqa: S608
_SET_STATUS = """
WITH changed AS (
    UPDATE identity.voter SET status = $2, updated_at = now()
    WHERE voter_id = $1 AND status <> 'closed' AND status <> $2 RETURNING voter_id
)
INSERT INTO identity.change (subject, change, reason, actor)
SELECT voter_id, 'status_' || $2, 'deletion', $3 FROM changed
"""
# A statement of its own: it sees the session of a login that held up the suspension.
_END_SESSIONS = """
WITH ended AS (
    UPDATE identity.session SET ended_at = clock_timestamp(), end_reason = $2
    WHERE voter_id = $1 AND ended_at IS NULL RETURNING 1
) SELECT count(*) FROM ended
"""
_FORGET = (
    "DELETE FROM identity.lookup WHERE voter_id = $1",
    "DELETE FROM identity.device_sighting WHERE voter_id = $1",
    "DELETE FROM identity.recovery WHERE voter_id = $1",
    "DELETE FROM identity.login_transaction WHERE subject = $1",
    # Whose login at a provider is being linked is the third word.
    "DELETE FROM identity.login_transaction WHERE kind = 'oidc_link' AND split_part(subject, ' ', 3) = $1",
    "DELETE FROM identity.login_failure WHERE voter_id = $1",
    "DELETE FROM identity.login_feature WHERE voter_id = $1",
    "DELETE FROM identity.login_place WHERE voter_id = $1",
    "UPDATE identity.session SET device = '', network = '' WHERE voter_id = $1",
)
_FORGET_CREDENTIALS = """
WITH gone AS (DELETE FROM identity.credential WHERE voter_id = $1 RETURNING 1) SELECT count(*) FROM gone
"""
_STOPPED = "UPDATE identity.account_deletion SET stage = 'stopped', sessions_ended = $2 WHERE deletion_id = $1"
_CLOSED = "UPDATE identity.account_deletion SET stage = 'closed', credentials_removed = $2 WHERE deletion_id = $1"
# At most as many as there were: whoever begins again after the key is destroyed finds no device to erase.
_DEVICES_ERASED = """
UPDATE identity.account_deletion SET devices_erased = greatest(devices_erased, $2)
WHERE deletion_id = $1 AND stage <> 'completed'
"""
_COMPLETED = f"""
UPDATE identity.account_deletion SET
    stage = 'completed', completed_at = now(), devices_erased = greatest(devices_erased, $2),
    credentials_removed = credentials_removed + $3,
    cases_erased = (
        SELECT count(*) FROM identity.proofing_case JOIN identity.registration USING (registration_id)
        WHERE registration.voter_id = account_deletion.voter_id AND erased_at IS NOT NULL
    )
WHERE deletion_id = $1 RETURNING {_COLUMNS}
"""  # noqa: S608
_OWNER = "process:auth"  # at the wish of whoever the account is of, whom no entry names
_NOTE = "INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, 'account_deleted', '', $2)"


class PostgresAccountEnds:
    """Implements `AccountEnds`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def request(self, deletion_id: str, voter_id: str) -> Deletion:
        """Keep that a voter wants the account deleted; return the first such wish."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                row = await connection.fetchrow(_REQUEST, deletion_id, voter_id)
                assert row is not None
                fields = dict(row)
                if fields.pop("is_new"):
                    await append(connection, AuditEntry(AuditKind.DELETION_ASKED, _OWNER, deletion_id))
        return _deletion(fields)

    async def get(self, deletion_id: str) -> Deletion | None:
        """Return a deletion, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_GET, deletion_id)
        return None if row is None else _deletion(row)

    async def unstarted(self, before: datetime, limit: int) -> Sequence[Deletion]:
        """Return deletions of which nothing has happened yet, oldest first."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_UNSTARTED, before, limit)
        return [_deletion(row) for row in rows]

    async def unfinished(self, before: datetime, after: str, limit: int) -> Sequence[Deletion]:
        """Return deletions that are not completed, by id."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_UNFINISHED, before, after, limit)
        return [_deletion(row) for row in rows]

    async def stop(self, deletion_id: str) -> None:
        """Suspend the account and end its sessions; every process looks for ended sessions itself."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                found = await _locked(connection, deletion_id)
                if found.stage is DeletionStage.REQUESTED:
                    await connection.execute(_SET_STATUS, found.voter_id, "suspended", ACTOR)
                    ended = await connection.fetchval(_END_SESSIONS, found.voter_id, EndReason.ACCOUNT_CLOSED)
                    await connection.execute(_STOPPED, deletion_id, ended)

    async def note_devices_erased(self, deletion_id: str, devices: int) -> None:
        """Keep how many devices the vendor has forgotten, unless there were more before."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await _locked(connection, deletion_id)
                await connection.execute(_DEVICES_ERASED, deletion_id, devices)

    async def close(self, deletion_id: str) -> None:
        """Close the account for good, and forget what it was found and logged in to by."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                found = await _locked(connection, deletion_id)
                if found.stage is DeletionStage.STOPPED:
                    await connection.execute(_SET_STATUS, found.voter_id, "closed", ACTOR)
                    await connection.execute(_CLOSED, deletion_id, await _forget(connection, found.voter_id))

    async def complete(self, deletion_id: str, devices_erased: int) -> Deletion:
        """Certify what was done, after one more look for what came in between."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                found = await _locked(connection, deletion_id)
                if found.stage is DeletionStage.COMPLETED:
                    return found
                late = await _forget(connection, found.voter_id)
                row = await connection.fetchrow(_COMPLETED, deletion_id, devices_erased, late)
                assert row is not None
                await connection.execute(_NOTE, found.voter_id, ACTOR)
                await append(connection, _completed(_deletion(row)))
        return _deletion(row)


async def _locked(connection: asyncpg.pool.PoolConnectionProxy, deletion_id: str) -> Deletion:
    row = await connection.fetchrow(_LOCK, deletion_id)
    if row is None:
        raise DomainError(ErrorCode.DELETION_NOT_FOUND)
    return _deletion(row)


async def _forget(connection: asyncpg.pool.PoolConnectionProxy, voter_id: str) -> int:
    """Forget everything that leads to the voter; return how many credentials there were."""
    for statement in _FORGET:
        await connection.execute(statement, voter_id)
    return int(await connection.fetchval(_FORGET_CREDENTIALS, voter_id))


def _completed(deletion: Deletion) -> AuditEntry:
    return AuditEntry(
        AuditKind.ACCOUNT_DELETED,
        "process:delete-account",
        deletion.deletion_id,
        facts={"casesErased": deletion.cases_erased, "credentialsRemoved": deletion.credentials_removed},
    )


def _deletion(row: Any) -> Deletion:
    return Deletion(**{**dict(row), "stage": DeletionStage(row["stage"])})
