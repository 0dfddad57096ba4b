"""Counts the references of a cell that have no target, in its own schemas and into the catalogue."""

from collections.abc import Mapping
from datetime import timedelta

import asyncpg

from integrations.postgres.failures import ledger_failures

_PUBLIC_STAGES = frozenset({"published", "finished"})
_LOCK = 0x64616E67  # "dang": one count at a time in a cell
_KEEP = """
INSERT INTO reconciliation.dangling (kind, dangling)
SELECT kind, dangling FROM unnest($1::text[], $2::bigint[]) AS fresh (kind, dangling)
ON CONFLICT ON CONSTRAINT pk_dangling DO UPDATE SET dangling = excluded.dangling, counted_at = now()
"""
_OPEN_BY_KIND = """
SELECT kind, count(*) + coalesce(sum((body ->> 'more')::bigint), 0) AS open FROM reconciliation.difference
WHERE repaired_at IS NULL AND cleared_at IS NULL GROUP BY kind
"""


class CellReferences:
    """One cell's references and open differences. Calls raise DomainError `ledger_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def count(self, stages: Mapping[str, str]) -> dict[str, int]:
        """Count and keep what dangles, by kind; `stages` are the catalogue's surveys.

        A survey that the cell has and the catalogue has not, or that is public and that the cell has not, counts too.
        """
        with ledger_failures():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
                await connection.fetchval("SELECT pg_advisory_xact_lock($1)", _LOCK)
                rows = await connection.fetch("SELECT kind, dangling FROM reconciliation.dangling_references()")
                copies = await connection.fetch("SELECT survey_id FROM voting.survey")
                counts = {row["kind"]: int(row["dangling"]) for row in rows}
                here = {row["survey_id"] for row in copies}
                public = {survey_id for survey_id, stage in stages.items() if stage in _PUBLIC_STAGES}
                counts["copy_without_survey"] = len(here - stages.keys())
                counts["survey_without_copy"] = len(public - here)
                await connection.execute(_KEEP, list(counts), list(counts.values()))
        return counts

    async def counted(self, within: timedelta) -> dict[str, int] | None:
        """Return what was counted no longer ago than `within`, or None."""
        with ledger_failures():
            rows = await self._pool.fetch(
                "SELECT kind, dangling FROM reconciliation.dangling WHERE counted_at > now() - $1::interval", within
            )
        return {row["kind"]: int(row["dangling"]) for row in rows} or None

    async def open_by_kind(self) -> dict[str, int]:
        """Return how many differences of any survey are open, by kind."""
        with ledger_failures():
            rows = await self._pool.fetch(_OPEN_BY_KIND)
        return {row["kind"]: int(row["open"]) for row in rows}
