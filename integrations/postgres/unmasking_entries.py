"""Audit entries of break-glass, each step once, by a role that can write nothing else."""

import hashlib
from typing import Final

import asyncpg

from domain.audit import AuditEntry
from domain.certificates import canonical_json
from domain.errors import DomainError, ErrorCode
from integrations.postgres.audit_entries import row_of
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_NOTE: Final = """
WITH first AS (
    INSERT INTO audit.unmasking_step (step, digest) VALUES ($1, $2)
    ON CONFLICT ON CONSTRAINT pk_unmasking_step DO NOTHING RETURNING step
)
INSERT INTO audit.entry (kind, body) SELECT $3, $4::jsonb FROM first
"""
_NOTED: Final = "SELECT digest FROM audit.unmasking_step WHERE step = $1"


class PostgresUnmaskingEntries:
    """Implements `NotedEntries`; made for the role `comitia_unmasking` in the cell's database.

    What the release before noted stands elsewhere, where others may write, and is not looked for: a step that it noted
    and could not tell of before it ended is noted once more.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def note(self, key: str, entry: AuditEntry) -> str:
        """Write an entry once, and return the outcome of the one that there is."""
        digest = hashlib.sha256(canonical_json({"kind": entry.kind.value, **entry.body})).digest()
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                if await connection.execute(_NOTE, key, digest, *row_of(entry)) == "INSERT 0 1":
                    return entry.outcome
                noted = await connection.fetchval(_NOTED, key)
        if noted != digest:
            raise DomainError(ErrorCode.IDEMPOTENCY_KEY_USED)
        return entry.outcome
