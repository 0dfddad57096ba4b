"""What support asked in cases, kept where every change of an account is kept."""

import hashlib

import asyncpg

from domain.audit import AuditEntry, AuditKind, actor_of
from domain.case_actions import CaseAction
from domain.cases import Case
from domain.errors import ErrorCode
from domain.tokens import Role
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

# The lock makes who repeats a request wait for the first one: both would see no row.
_NOTE = """
INSERT INTO identity.change (subject, change, reason, actor) SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT FROM identity.change WHERE subject = $1 AND change = $2 AND reason = $3 AND actor = $4)
RETURNING true
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_KEY_DIGITS = 32


class PostgresCaseActions:
    """Implements `CaseActions`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def note(self, case: Case, action: CaseAction, reason: str, actor: str, key: str) -> None:
        """Keep who asks for what and why; the key stands behind the reason as a digest."""
        digest = hashlib.sha256(key.encode()).hexdigest()[:_KEY_DIGITS]
        row = (case.voter_id, f"support_{action}", f"{reason} key={digest}", actor)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_LOCK, f"{case.case_id}/{action}/{digest}")
                if await connection.fetchval(_NOTE, *row):
                    await append(connection, _entry(case, action, reason, actor))


def _entry(case: Case, action: CaseAction, reason: str, actor: str) -> AuditEntry:
    return AuditEntry(
        AuditKind.CASE_ACTION_ASKED,
        actor_of(actor),
        case.case_id,
        role=Role.SUPPORT.value,
        reason=reason,
        outcome=action.value,
    )
