"""What reconciliation reads of one cell's ledger, and keeps beside it."""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from domain.batch_bits import BatchKey
from domain.contracts.reconciliation import Difference, DifferenceKind
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId
from domain.ledger_rows import CountRow
from domain.ledger_sums import LedgerSums
from domain.tally import BALLOTS, Counts
from domain.tally_comparison import LedgerTotals
from integrations.postgres.differences import clear_differences, read_open, write_differences
from integrations.postgres.failures import ledger_failures
from integrations.postgres.ledger_pass import BLOCKS_BACK, Horizon, PostgresLedgerPass
from integrations.postgres.ledger_sums import counts_of, read_bits, read_sums

LOCK_SPACE = 0x7265636F  # "reco": one pass over a survey at a time
_LOOK_UP = 1_000  # nullifiers in one statement

_HORIZON = """
SELECT pg_snapshot_xmin(now)::text::bigint AS horizon,
    pg_snapshot_xmax(now)::text::bigint
        + age((pg_snapshot_xmax(now)::text::bigint & 4294967295)::text::xid) AS next,
    pg_relation_size('voting.participation') / current_setting('block_size')::bigint AS participation_block,
    pg_relation_size('voting.ballot') / current_setting('block_size')::bigint AS ballot_block
FROM pg_current_snapshot() AS now
"""
_CHECKPOINT = "SELECT xid::text::bigint AS xid, sums FROM reconciliation.checkpoint WHERE survey_id = $1"
_SINCE = """
SELECT batch.gateway_id, batch.number, json_agg(json_build_array(own.survey_id, own.region, own.ballots, own.options))
    AS counts
FROM voting.batch JOIN voting.batch_count AS own USING (gateway_id, number)
WHERE own.survey_id = $1 AND batch.xid >= $2::bigint::text::xid8 GROUP BY 1, 2
"""
_BATCHES = """
SELECT gateway_id, number, extract(epoch FROM clock_timestamp() - min(batch.recorded_at))::float8 AS age_s,
    json_agg(json_build_array(own.survey_id, own.region, own.ballots, own.options)) AS counts
FROM voting.batch JOIN voting.batch_count AS own USING (gateway_id, number)
JOIN unnest($2::bytea[], $3::bigint[]) AS asked (gateway_id, number) USING (gateway_id, number)
WHERE own.survey_id = $1 GROUP BY gateway_id, number
"""
_HOLDS = """
SELECT nullifier FROM voting.participation JOIN unnest($2::bytea[]) AS asked (nullifier) USING (nullifier)
WHERE survey_id = $1
"""
_RANGE = """
SELECT coalesce(string_agg(nullifier, ''), '') FROM voting.participation
WHERE survey_id = $1 AND nullifier >= $2 AND ($3::bytea IS NULL OR nullifier < $3)
"""
_NULLIFIER_BYTES = 32


class PostgresTotalsView:
    """Implements `TotalsView` over a connection in a snapshot."""

    def __init__(self, connection: Any, survey_id: str, totals: LedgerTotals) -> None:
        self._connection = connection
        self._survey_id = survey_id
        self.totals = totals

    async def batches(self, keys: Collection[BatchKey]) -> Mapping[BatchKey, tuple[Counts, float]]:
        """Return what each of these batches counts, and how many seconds ago it was recorded."""
        if not keys:
            return {}
        asked = list(keys)
        with ledger_failures():
            rows = await self._connection.fetch(
                _BATCHES,
                self._survey_id,
                [bytes.fromhex(gateway) for gateway, _ in asked],
                [number for _, number in asked],
            )
        return {(row["gateway_id"].hex(), row["number"]): (_counts(row["counts"]), row["age_s"]) for row in rows}


class PostgresLedgerAudit:
    """Implements `LedgerAudit` for one cell."""

    def __init__(self, pool: asyncpg.Pool, cell: str, *, blocks_back: int = BLOCKS_BACK) -> None:
        """`blocks_back` is how far before the end of a table new rows are looked for first."""
        self._pool = pool
        self._cell = cell
        self._blocks_back = blocks_back

    @asynccontextmanager
    async def open_pass(self, survey_id: str, *, complete: bool) -> AsyncIterator[PostgresLedgerPass]:
        """Begin a pass in one transaction, which commits when the body ends well.

        Raises:
            DomainError: `ledger_unavailable`, also where another pass over this survey runs.
        """
        async with self._snapshot() as connection:
            with ledger_failures():
                if not await connection.fetchval(
                    "SELECT pg_try_advisory_xact_lock($1, hashtext($2))", LOCK_SPACE, survey_id
                ):
                    raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "another pass reads this survey")
                horizon = Horizon(await connection.fetchrow(_HORIZON))
                begun = PostgresLedgerPass(connection, self._cell, survey_id, horizon, complete=complete)
                await begun.begin(self._blocks_back)
            yield begun

    @asynccontextmanager
    async def open_totals(self, survey_id: str) -> AsyncIterator[PostgresTotalsView]:
        """Open a snapshot of this instant: what was checked up to the last pass, and what came since."""
        async with self._snapshot() as connection:
            with ledger_failures():
                kept = await connection.fetchrow(_CHECKPOINT, survey_id)
                epoch = await connection.fetchval("SELECT installed FROM tally.epoch WHERE survey_id = $1", survey_id)
                sums = LedgerSums() if kept is None else read_sums(kept["sums"])
                sums.bits = await read_bits(connection, survey_id)
                for row in await connection.fetch(_SINCE, survey_id, 0 if kept is None else kept["xid"]):
                    counts = [CountRow(*count) for count in json.loads(row["counts"])]
                    sums.count(BatchId(row["gateway_id"], row["number"]), counts)
            totals = LedgerTotals(epoch or 0, counts_of(sums), sums.bits)
            yield PostgresTotalsView(connection, survey_id, totals)

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Any]:
        with ledger_failures():
            connection = await self._pool.acquire()
        try:
            transaction = connection.transaction(isolation="repeatable_read")
            with ledger_failures():
                await transaction.start()
                # Between two readings rows are checked; a stalled process holds a lock that only passes ask for
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
                await connection.execute("SET LOCAL work_mem = '32MB'")
            try:
                yield connection
            except BaseException:
                with ledger_failures():
                    await transaction.rollback()
                raise
            with ledger_failures():
                await transaction.commit()
        finally:
            await self._pool.release(connection)

    async def holds(self, survey_id: str, nullifiers: Sequence[bytes]) -> list[bytes]:
        """Return those of these nullifiers that took part in this cell."""
        found: list[bytes] = []
        with ledger_failures():
            for start in range(0, len(nullifiers), _LOOK_UP):
                rows = await self._pool.fetch(_HOLDS, survey_id, nullifiers[start : start + _LOOK_UP])
                found += [row["nullifier"] for row in rows]
        return found

    async def count_participations(self, survey_id: str) -> int:
        """Return how many participations the last pass came to, 0 where there was none."""
        with ledger_failures():
            kept = await self._pool.fetchval(
                "SELECT sums FROM reconciliation.checkpoint WHERE survey_id = $1", survey_id
            )
        return 0 if kept is None else read_sums(kept).participations

    async def nullifiers(self, survey_id: str, first: bytes, end: bytes | None) -> set[bytes]:
        """Return the nullifiers from `first` up to, not including, `end`."""
        with ledger_failures():
            joined: bytes = await self._pool.fetchval(_RANGE, survey_id, first, end)
        return {joined[at : at + _NULLIFIER_BYTES] for at in range(0, len(joined), _NULLIFIER_BYTES)}

    async def keep_differences(
        self,
        survey_id: str,
        kinds: Collection[DifferenceKind],
        differences: Sequence[Difference],
        repaired: Sequence[Difference] = (),
        *,
        compared: bool = False,
    ) -> None:
        """Keep what is different, note what is repaired, clear the rest of these kinds, in one transaction."""
        with ledger_failures():
            async with self._pool.acquire() as connection, connection.transaction():
                await write_differences(connection, survey_id, repaired, repaired=True)
                await write_differences(connection, survey_id, differences)
                await clear_differences(connection, survey_id, kinds, differences)
                if compared:
                    await connection.execute(
                        "UPDATE reconciliation.checkpoint SET uncompared = false WHERE survey_id = $1", survey_id
                    )

    async def open_differences(self, survey_id: str) -> tuple[Difference, ...]:
        """Return what is open, at most a few hundred of each kind."""
        with ledger_failures():
            return await read_open(self._pool, survey_id)


def _counts(text: str) -> Counts:
    counts: Counts = {}
    for _, region, ballots, options in json.loads(text):
        counts[region, BALLOTS] = ballots
        counts |= {(region, option): votes for option, votes in options.items()}
    return counts
