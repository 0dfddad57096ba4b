"""The places of audit entries in a log: given once, in the order of the transactions that wrote them.

A transaction's number says nothing of when it commits. So only those below the oldest that is still open get places:
of them every one has ended, nothing can come in between later, and none is ever passed over.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from domain.audit import EntryTooLargeError, canonical_entry
from domain.audit_log import LeafEntry
from domain.errors import DomainError, ErrorCode
from domain.merkle import leaf_hash
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_LOCK_KEY = 0x6175646974  # "audit": one who sequences at a time in a database
_LOCK = "SELECT pg_advisory_xact_lock($1)"
_PATIENCE = "SET LOCAL idle_in_transaction_session_timeout = '30s'"  # hashing in between; it holds up nobody else
_LAST = "SELECT leaf_index, entry_id, xid::text AS number FROM audit.leaf ORDER BY leaf_index DESC LIMIT 1"
# The first condition is for the index; the second says where the last place was given. Transactions are in the order of
# their numbers, not of the numbers' texts, which is why no column that is returned is called `xid`.
_NEXT = """
SELECT entry_id, xid::text AS number, occurred_at, kind, body::text AS body FROM audit.entry
WHERE xid >= $1::text::xid8 AND (xid, entry_id) > ($1::text::xid8, $2::uuid)
    AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY entry.xid, entry.entry_id LIMIT $3
"""
# Of committed entries, whether or not they may have a place yet.
_WAITING = """
SELECT greatest(clock_timestamp() - occurred_at, '0') FROM audit.entry
WHERE xid >= $1::text::xid8 AND (xid, entry_id) > ($1::text::xid8, $2::uuid)
ORDER BY xid, entry_id LIMIT 1
"""
_GIVE = """
INSERT INTO audit.leaf (leaf_index, entry_id, xid, leaf_hash)
SELECT $1 + place - 1, entry_id, xid::xid8, leaf_hash
FROM unnest($2::uuid[], $3::text[], $4::bytea[]) WITH ORDINALITY AS next (entry_id, xid, leaf_hash, place)
"""
_ENTRIES = """
SELECT leaf_index, leaf.entry_id, leaf_hash, occurred_at, kind, body::text AS body
FROM audit.leaf LEFT JOIN audit.entry USING (entry_id)
WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index
"""
_BEFORE = """
SELECT entry_id, xid::text AS number FROM audit.leaf WHERE leaf_index < $1 ORDER BY leaf_index DESC LIMIT 1
"""
_PASSED_OVER = """
SELECT entry.kind, entry.entry_id FROM audit.entry LEFT JOIN audit.leaf USING (entry_id)
WHERE leaf.entry_id IS NULL AND entry.xid >= $1::text::xid8 AND entry.xid <= $2::text::xid8
    AND (entry.xid, entry.entry_id) < ($2::text::xid8, $3::uuid)
ORDER BY entry.xid, entry.entry_id LIMIT 1
"""
_BEFORE_ALL = ("0", "00000000-0000-0000-0000-000000000000")


class PostgresAuditSequence:
    """Implements `AuditSequence`; made for the role `comitia_audit`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def sequence(self, most: int) -> tuple[int, bool]:
        """Give up to `most` entries the next places; return how many have one now, and whether there are more."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_PATIENCE)
                await connection.execute(_LOCK, _LOCK_KEY)
                last = await connection.fetchrow(_LAST)
                after = _BEFORE_ALL if last is None else (last["number"], last["entry_id"])
                size = 0 if last is None else last["leaf_index"] + 1
                rows = await connection.fetch(_NEXT, *after, most)
                hashes = [leaf_hash(_leaf(row)) for row in rows]
                ids, xids = [row["entry_id"] for row in rows], [row["number"] for row in rows]
                if rows:
                    await connection.execute(_GIVE, size, ids, xids, hashes)
        return size + len(rows), len(rows) == most

    async def waited(self) -> timedelta:
        """Return for how long the next entry has been without a place; zero where none is."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            last = await self._pool.fetchrow(_LAST)
            after = _BEFORE_ALL if last is None else (last["number"], last["entry_id"])
            age: timedelta | None = await self._pool.fetchval(_WAITING, *after)
        return age or timedelta()

    async def entries(self, first: int, end: int) -> Sequence[LeafEntry]:
        """Return the entries from place `first` up to, not including, `end`; fewer where there are not so many."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            rows = await self._pool.fetch(_ENTRIES, first, end)
        return [
            LeafEntry(
                index=row["leaf_index"],
                entry_id=str(row["entry_id"]),
                kind=row["kind"] or "",
                leaf=b"" if row["body"] is None else _leaf(row),
                leaf_hash=row["leaf_hash"],
            )
            for row in rows
        ]

    async def passed_over(self, first: int, end: int) -> str:
        """Name an entry that has no place, and none to come, between those of these places; or nothing.

        With `first` 0, of all that are before place `end`.
        """
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            before, last = await self._pool.fetchrow(_BEFORE, first), await self._pool.fetchrow(_BEFORE, end)
            if last is None:
                return ""
            since = _BEFORE_ALL[0] if before is None else before["number"]
            row = await self._pool.fetchrow(_PASSED_OVER, since, last["number"], last["entry_id"])
        return "" if row is None else f"{row['kind']} {row['entry_id']} has no place"


def _leaf(row: Any) -> bytes:
    try:
        return canonical_entry(str(row["entry_id"]), row["occurred_at"], row["kind"], json.loads(row["body"]))
    except (ValueError, RecursionError) as error:  # JSON for the database, with numbers or a depth that no reader takes
        said = str(error) if isinstance(error, EntryTooLargeError) else f"no leaf: {type(error).__name__}"
        raise DomainError(ErrorCode.AUDIT_LOG_CONTRADICTED, f"entry {row['entry_id']}: {said}") from error
