"""Audit entries of histories that the codec server opened, by a role that can write nothing else."""

import asyncpg

from domain.audit import AuditEntry
from domain.errors import ErrorCode
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as


class PostgresCodecEntries:
    """Implements `EachTimeEntries`; made for the role `comitia_codec` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def write(self, entry: AuditEntry) -> None:
        """Write an entry, each time anew."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await append(connection, entry)
