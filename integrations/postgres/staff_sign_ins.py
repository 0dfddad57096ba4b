"""Audit entries of staff who came in or were refused, each once, in a cell's database or the catalogue's."""

from typing import Final

import asyncpg

from domain.audit import AuditEntry
from domain.errors import ErrorCode
from domain.staff_sign_ins import digest_of
from integrations.postgres.audit_entries import row_of
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_NOTE: Final = """
WITH first AS (
    INSERT INTO audit.staff_sign_in (digest) VALUES ($1)
    ON CONFLICT ON CONSTRAINT pk_staff_sign_in DO NOTHING RETURNING digest
)
INSERT INTO audit.entry (kind, body) SELECT $2, $3::jsonb FROM first
"""


class PostgresStaffSignIns:
    """Implements `StaffSignIns`; made for the role of any service that takes tokens of staff."""

    def __init__(self, pool: asyncpg.Pool, away: ErrorCode = ErrorCode.AUDIT_LOG_UNAVAILABLE) -> None:
        """`away` is what is raised where the database cannot be reached, retryable."""
        self._pool = pool
        self._away = away

    async def note(self, entry: AuditEntry) -> bool:
        """Write an entry, unless the same is there; tell whether it was written."""
        with unavailable_as(self._away):
            async with acknowledged(self._pool) as connection:
                return await connection.execute(_NOTE, digest_of(entry), *row_of(entry)) == "INSERT 0 1"
