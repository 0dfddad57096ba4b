"""What keeps voters of one cell out, lifted under the lock of the account; each change says which action it was."""

from typing import Any, Final

import asyncpg

from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.sessions import MAY_LOG_IN
from domain.support_actions import UNLOCKS_MAX, UNLOCKS_WITHIN
from integrations.postgres.accounts import ACTOR
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_UNLOCKED: Final = "unlocked"
_REINSTATED: Final = "reinstated"
_LOCK = "SELECT status FROM identity.voter WHERE voter_id = $1 FOR UPDATE"
_IS_DONE = "SELECT EXISTS (SELECT FROM identity.change WHERE subject = $1 AND change = $2 AND reason = $3)"
_DONE_LATELY = """
SELECT count(*) FROM identity.change WHERE subject = $1 AND change = $2 AND changed_at > now() - $3::interval
"""
_NOTE = "INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, $2, $3, $4)"
_FREE = """
UPDATE identity.credential SET failures = 0, last_failed_at = NULL WHERE voter_id = $1 AND failures > 0
"""
# Of the last hour alone are failures counted; what is older says how the account came to be locked
_FORGET_FAILURES = "DELETE FROM identity.login_failure WHERE voter_id = $1 AND at > now() - interval '1 hour'"
_ACTIVATE = """
UPDATE identity.voter SET status = 'active', updated_at = now()
WHERE voter_id = $1 AND status = 'suspended' AND person_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM identity.account_deletion WHERE voter_id = $1)
RETURNING true
"""


class PostgresAccountLocks:
    """Implements `AccountLocks`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def unlock(self, voter_id: str, action_id: str) -> None:
        """Let the voter try every credential at once, and have failures until now count against no login."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                status = await _locked(connection, voter_id)
                if await connection.fetchval(_IS_DONE, voter_id, _UNLOCKED, action_id):
                    return
                if status not in MAY_LOG_IN:
                    raise DomainError(ErrorCode.CASE_STAGE, f"the account is {status}")
                if await connection.fetchval(_DONE_LATELY, voter_id, _UNLOCKED, UNLOCKS_WITHIN) >= UNLOCKS_MAX:
                    raise DomainError(ErrorCode.CASE_STAGE, f"it was unlocked {UNLOCKS_MAX} times within a day")
                await connection.execute(_FREE, voter_id)
                await connection.execute(_FORGET_FAILURES, voter_id)
                await connection.execute(_NOTE, voter_id, _UNLOCKED, action_id, ACTOR)

    async def reinstate(self, voter_id: str, action_id: str) -> None:
        """Make a suspended account active again."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                status = await _locked(connection, voter_id)
                if await connection.fetchval(_IS_DONE, voter_id, _REINSTATED, action_id):
                    return
                if not await connection.fetchval(_ACTIVATE, voter_id):
                    raise DomainError(ErrorCode.CASE_STAGE, f"the account is {status}, and stays so")
                await connection.execute(_NOTE, voter_id, "status_active", _REINSTATED, ACTOR)
                await connection.execute(_NOTE, voter_id, _REINSTATED, action_id, ACTOR)


async def _locked(connection: Any, voter_id: str) -> VoterStatus:
    status = await connection.fetchval(_LOCK, voter_id)
    if status is None:
        raise DomainError(ErrorCode.VOTER_NOT_FOUND, voter_id)
    return VoterStatus(status)
