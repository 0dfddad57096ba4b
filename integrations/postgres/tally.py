"""What the tally reads of the ledger, and which rebuild of each survey's totals is the valid one."""

from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from domain.tally import BALLOTS, Counts
from integrations.postgres.failures import ledger_failures

_PREFETCH = 16  # rows of at most 65,536 numbers
_BIT_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

_COUNTS = """
SELECT region, NULL AS option_id, sum(ballots) AS votes FROM voting.batch_count WHERE survey_id = $1 GROUP BY region
UNION ALL
SELECT region, choice.option_id, sum(choice.votes::bigint)
FROM voting.batch_count CROSS JOIN LATERAL jsonb_each_text(options) AS choice (option_id, votes)
WHERE survey_id = $1 GROUP BY region, choice.option_id
"""

_BATCHES = """
SELECT gateway_id, number / $2 AS chunk, array_agg((number % $2)::integer) AS bits
FROM voting.batch_count WHERE survey_id = $1 GROUP BY gateway_id, number / $2
"""

_SURVEYS = """
SELECT survey.survey_id, greatest((definition ->> 'minimum_step')::integer, 1) AS minimum_step,
    coalesce(epoch.installed, 0) AS installed,
    CASE WHEN start_at <= now() THEN coalesce(extract(epoch FROM now() - finish_at), 0)::float8 END AS ended_s
FROM voting.survey LEFT JOIN tally.epoch USING (survey_id)
"""

_MINIMUM_STEP = "SELECT greatest((definition ->> 'minimum_step')::integer, 1) FROM voting.survey WHERE survey_id = $1"

_ALLOCATE = """
INSERT INTO tally.epoch (survey_id, allocated) VALUES ($1, 1)
ON CONFLICT ON CONSTRAINT pk_epoch DO UPDATE SET allocated = epoch.allocated + 1
RETURNING allocated
"""

_INSTALLED = "UPDATE tally.epoch SET installed = $2 WHERE survey_id = $1 AND installed < $2"


@dataclass(frozen=True, slots=True)
class TalliedSurvey:
    """A survey of the cell, the least number of ballots by which its live result moves, and its valid epoch.

    `ended_s` are the seconds since its end, at most 0 while it takes votes, None before it does.
    """

    survey_id: str
    minimum_step: int
    installed_epoch: int
    ended_s: float | None = None


class TallyEpochs:
    """Numbers the rebuilds of each survey. Calls raise DomainError `ledger_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def surveys(self) -> dict[str, TalliedSurvey]:
        """Return every survey that the cell has, by id."""
        with ledger_failures():
            rows = await self._pool.fetch(_SURVEYS)
        return {row["survey_id"]: TalliedSurvey(**row) for row in (_tallied(row) for row in rows)}

    async def installed(self, survey_id: str) -> int:
        """Return the epoch that Redis has to have, 0 where there was none yet."""
        with ledger_failures():
            found = await self._pool.fetchval("SELECT installed FROM tally.epoch WHERE survey_id = $1", survey_id)
        return found or 0

    async def minimum_step(self, survey_id: str) -> int:
        """Return the least number of ballots by which a survey's live result moves."""
        with ledger_failures():
            found = await self._pool.fetchval(_MINIMUM_STEP, survey_id)
        return found or 1

    async def allocate(self, survey_id: str) -> int:
        """Return an epoch that nobody had before."""
        with ledger_failures():
            epoch: int = await self._pool.fetchval(_ALLOCATE, survey_id)
        return epoch

    async def mark_installed(self, survey_id: str, epoch: int) -> None:
        """Note that Redis took an epoch; safe to repeat, and late."""
        with ledger_failures():
            await self._pool.execute(_INSTALLED, survey_id, epoch)


def _tallied(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "survey_id": row["survey_id"],
        "minimum_step": row["minimum_step"] or 1,
        "installed_epoch": row["installed"],
        "ended_s": row["ended_s"],
    }


class LedgerSnapshot:
    """One instant of the ledger: what was committed before it, and nothing else."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def counts(self, survey_id: str) -> Counts:
        """Return votes per region and option, and ballots per region."""
        with ledger_failures():
            rows = await self._connection.fetch(_COUNTS, survey_id)
        return {(row["region"], row["option_id"] or BALLOTS): int(row["votes"]) for row in rows}

    async def bitmaps(self, survey_id: str, chunk: int) -> AsyncIterator[tuple[str, int, bytes]]:
        """Stream which batches are counted: gateway in hexadecimal, number // `chunk`, and bits as Redis numbers them.

        Memory is bounded by a few rows of `chunk` numbers (a multiple of 8).
        """
        with ledger_failures():
            async for row in self._connection.cursor(_BATCHES, survey_id, chunk, prefetch=_PREFETCH):
                yield row["gateway_id"].hex(), row["chunk"], _bitmap(row["bits"])


def _bitmap(bits: list[int]) -> bytes:
    bitmap = bytearray(max(bits) // 8 + 1)
    for bit in array("I", bits):
        bitmap[bit >> 3] |= 1 << (bit & 7)
    return bytes(bitmap).translate(_BIT_REVERSED)  # Redis counts from the most significant bit


class LedgerSnapshots:
    """Opens snapshots of a cell's ledger."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def open(self) -> AsyncIterator[LedgerSnapshot]:
        """Open a snapshot of this instant.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        with ledger_failures():
            connection = await self._pool.acquire()
        try:
            with ledger_failures():
                transaction = connection.transaction(isolation="repeatable_read", readonly=True)
                await transaction.start()
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '30s'")
                await connection.fetchval("SELECT pg_current_snapshot()::text")
            try:
                yield LedgerSnapshot(connection)
            finally:
                with ledger_failures():
                    await transaction.rollback()
        finally:
            await self._pool.release(connection)
