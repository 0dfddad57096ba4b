"""Audit entries of what staff ask for in a cell, each beside a row of its key, in one transaction."""

import hashlib
from dataclasses import replace
from typing import Final

import asyncpg

from domain.audit import AuditEntry
from domain.certificates import canonical_json
from domain.errors import DomainError, ErrorCode
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_LOCK_SPACE: Final = 0x73746166  # "staf"
# Whoever has it alone reads what was committed before: the rows are looked at by an index and never changed
_LOCK = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
_FIND = "SELECT reason FROM identity.change WHERE subject = $1 AND change = 'staff_entry' ORDER BY change_id LIMIT 1"
_NOTE = "INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, 'staff_entry', $2, $3)"


class PostgresStaffEntries:
    """Implements `StaffEntries`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def note(self, key: str, entry: AuditEntry) -> str:
        """Write an entry once, and return the outcome of the one that there is."""
        asked = _asked(entry)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_LOCK, _LOCK_SPACE, key)
                noted = await connection.fetchval(_FIND, key)
                if noted is None:
                    await connection.execute(_NOTE, key, f"{entry.outcome}:{asked}", entry.actor)
                    await append(connection, entry)
                    return entry.outcome
        outcome, _, of = noted.rpartition(":")
        if of != asked:
            raise DomainError(ErrorCode.IDEMPOTENCY_KEY_USED)
        return str(outcome)

    async def outcome_of(self, key: str) -> str | None:
        """Return the outcome of the entry of a key, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            noted = await self._pool.fetchval(_FIND, key)
        return None if noted is None else str(noted.rpartition(":")[0])


def _asked(entry: AuditEntry) -> str:
    """Return a digest of everything but the outcome, which the first one decides."""
    told = {"kind": entry.kind.value, **replace(entry, outcome="").body}
    return hashlib.sha256(canonical_json(told)).hexdigest()
