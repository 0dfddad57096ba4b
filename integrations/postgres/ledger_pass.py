"""One pass over a survey's rows in a cell: one snapshot, streamed in the order of the transactions that wrote them.

Participations have no batch and no time. What binds them to their batch is the transaction that wrote both, `xmin` of
their rows; and what is new stands at the end of the table, since nothing is ever changed or deleted in it. Where a row
of a batch is not found there (space that a rolled-back transaction left was used again), the pass reads everywhere.
"""

import json
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from domain.contracts.reconciliation import CellChecked, Difference
from domain.contracts.voting import Outcome
from domain.ids import BatchId
from domain.ledger_rows import BallotRow, BatchRow, CountRow, LedgerTransaction, ParticipationRow
from domain.ledger_sums import LedgerSums
from integrations.postgres.differences import LEDGER_KINDS, clear_differences, write_differences
from integrations.postgres.failures import ledger_failures
from integrations.postgres.ledger_sums import read_bits, read_sums, sums_json, write_bits

_VOTES_PER_CHUNK = 4_000
_BATCHES_PER_CHUNK = 1_000
_ROWS_PER_FETCH = 2_000
_XID = itemgetter("xid")
# New rows may land in pages a little before the end: of those that were being filled when the last pass looked.
BLOCKS_BACK = 1_024


def _full_xid(table: str) -> str:
    """Return the expression for a row's transaction as 64 bits; `$2` is the transaction that `age` counts from."""
    return f"($2::bigint - (age({table}.xmin)::bigint & 4294967295))"


_BATCH_COLUMNS = f"""
SELECT batch.xid::text::bigint AS xid, {_full_xid("batch")} AS written_by, gateway_id, number,
    outcomes, participations_root, ballots_root, (
        SELECT json_agg(json_build_array(own.survey_id, own.region, own.ballots, own.options,
            {_full_xid("own")}))
        FROM voting.batch_count AS own WHERE own.gateway_id = batch.gateway_id AND own.number = batch.number
    ) AS counts, (
        SELECT json_agg(entry.body) FROM audit.entry WHERE entry.xid = batch.xid AND entry.kind = 'votes.recorded'
    ) AS entries
FROM voting.batch
"""  # noqa: S608 - constants
_BATCHES = f"""{_BATCH_COLUMNS}
WHERE batch.xid >= $3::bigint::text::xid8 AND batch.xid < $4::bigint::text::xid8 AND EXISTS (
    SELECT FROM voting.batch_count AS own
    WHERE own.gateway_id = batch.gateway_id AND own.number = batch.number AND own.survey_id = $1
)
ORDER BY batch.xid
"""
_BATCHES_OF = f"{_BATCH_COLUMNS} WHERE batch.xid = ANY($1::bigint[]::text[]::xid8[])"


def _mixed(from_xid: str, horizon: str) -> str:
    """Return the query for batches of several surveys: their roots cover the rows of all of them."""
    return f"""
SELECT DISTINCT batch.xmin FROM voting.batch JOIN voting.batch_count AS own USING (gateway_id, number)
JOIN voting.batch_count AS other USING (gateway_id, number)
WHERE batch.xid >= {from_xid}::bigint::text::xid8 AND batch.xid < {horizon}::bigint::text::xid8
    AND own.survey_id = $1 AND other.survey_id <> $1
"""  # noqa: S608 - names of parameters


_IS_MIXED = f"SELECT EXISTS ({_mixed('$2', '$3')})"


def _rows(table: str, columns: str, *, mixed: bool) -> str:
    """Return the statement for the new rows of a table: those of the survey, and what its batches hold besides."""
    xid = _full_xid(table)
    reading = f"SELECT {xid} AS xid, {columns} FROM voting.{table}"  # noqa: S608 - constants
    window = f"{table}.ctid >= format('(%s,0)', $5::bigint)::tid AND {xid} >= $3 AND {xid} < $4"
    own = f"{reading} WHERE survey_id = $1 AND {window}"
    if not mixed:
        return f"{own} ORDER BY 1"
    join = f"JOIN ({_mixed('$3', '$4')}) AS mixed ON mixed.xmin = {table}.xmin"
    return f"{own} UNION ALL {reading} {join} WHERE survey_id <> $1 AND {window} ORDER BY 1"


_PARTICIPATION_COLUMNS = "survey_id, nullifier, region, evidence"
_BALLOT_COLUMNS = "survey_id, ballot_id, gateway_id, number, sealed"
_EXISTING = """
SELECT gateway_id, number FROM voting.batch
JOIN unnest($1::bytea[], $2::bigint[]) AS asked (gateway_id, number) USING (gateway_id, number)
"""
_KEEP = """
INSERT INTO reconciliation.checkpoint
    (survey_id, xid, participation_block, ballot_block, sums, uncompared, checked_at, completed_at)
VALUES ($1, $2::bigint::text::xid8, $3, $4, $5::jsonb, $6, now(), CASE WHEN $7 THEN now() END)
ON CONFLICT ON CONSTRAINT pk_checkpoint DO UPDATE SET xid = excluded.xid,
    participation_block = excluded.participation_block, ballot_block = excluded.ballot_block, sums = excluded.sums,
    uncompared = excluded.uncompared, checked_at = excluded.checked_at,
    completed_at = coalesce(excluded.completed_at, checkpoint.completed_at)
"""


class Horizon:
    """Up to where a snapshot is final: every transaction before `xid` is over.

    `next_xid` is what `age` counts from, in this transaction. The blocks are where the tables ended.
    """

    def __init__(self, row: Any) -> None:
        self.xid: int = row["horizon"]
        self.next_xid: int = row["next"]
        self.participation_block: int = row["participation_block"]
        self.ballot_block: int = row["ballot_block"]


class PostgresLedgerPass:
    """Implements `LedgerPass` over a connection whose transaction holds the survey's lock."""

    def __init__(self, connection: Any, cell: str, survey_id: str, horizon: Horizon, *, complete: bool) -> None:
        self._connection = connection
        self._cell = cell
        self._survey_id = survey_id
        self._horizon = horizon
        self._complete = complete
        self._from_xid = 0
        self._blocks = (0, 0)
        self.is_installed = False
        self.sums = LedgerSums()
        self.uncompared = False
        self.missed = False

    async def begin(self, blocks_back: int) -> None:
        """Take up where the last pass ended; a complete one begins with nothing."""
        survey_id = self._survey_id
        self.is_installed = await self._connection.fetchval(
            "SELECT EXISTS (SELECT FROM voting.survey WHERE survey_id = $1)", survey_id
        )
        row = await self._connection.fetchrow(
            "SELECT xid::text::bigint AS xid, participation_block, ballot_block, sums, uncompared "
            "FROM reconciliation.checkpoint WHERE survey_id = $1",
            survey_id,
        )
        if row is None:
            return
        self.uncompared = row["uncompared"]
        if self._complete:
            return
        self._from_xid = row["xid"]
        self._blocks = (
            max(0, row["participation_block"] - blocks_back),
            max(0, row["ballot_block"] - blocks_back),
        )
        self.sums = read_sums(row["sums"])

    async def transactions(self, *, everywhere: bool) -> AsyncIterator[list[LedgerTransaction]]:
        """Yield what is new, some thousand votes at a time.

        Memory is bounded by a few of the largest batches, and by what was stuffed between two of them.
        """
        window = (self._survey_id, self._horizon.next_xid, self._from_xid, self._horizon.xid)
        participation_block, ballot_block = (0, 0) if everywhere else self._blocks
        with ledger_failures():
            mixed: bool = await self._connection.fetchval(_IS_MIXED, self._survey_id, self._from_xid, self._horizon.xid)
            batches = _Rows(await self._connection.cursor(_BATCHES, *window), _BATCHES_PER_CHUNK)
            participations = await self._open("participation", _PARTICIPATION_COLUMNS, participation_block, mixed=mixed)
            ballots = await self._open("ballot", _BALLOT_COLUMNS, ballot_block, mixed=mixed)
            while True:
                taken = await batches.take_votes()
                end = taken[-1]["xid"] if taken else None
                chunk: dict[int, LedgerTransaction] = {}
                for row in taken:
                    _transaction(chunk, row["xid"]).batches.append(_batch(row))
                for xid, rows in groupby(await participations.up_to(end), _XID):
                    _transaction(chunk, xid).participations.extend(map(_participation, rows))
                for xid, rows in groupby(await ballots.up_to(end), _XID):
                    _transaction(chunk, xid).ballots.extend(map(_ballot, rows))
                if not chunk and end is None:
                    return
                yield await self._whole(list(chunk.values()), everywhere=everywhere)

    async def _open(self, table: str, columns: str, block: int, *, mixed: bool) -> "_Rows":
        cursor = await self._connection.cursor(
            _rows(table, columns, mixed=mixed),
            self._survey_id,
            self._horizon.next_xid,
            self._from_xid,
            self._horizon.xid,
            block,
        )
        return _Rows(cursor, _ROWS_PER_FETCH)

    async def _whole(self, transactions: list[LedgerTransaction], *, everywhere: bool) -> list[LedgerTransaction]:
        """Find the batches that were recorded with rows of the survey and count none; note where rows are missing."""
        alone = [each for each in transactions if not each.batches]
        if alone:
            rows = await self._connection.fetch(_BATCHES_OF, [each.xid for each in alone], self._horizon.next_xid)
            by_xid = {each.xid: each for each in alone}
            for row in rows:
                by_xid[row["xid"]].batches.append(_batch(row))
        if not everywhere:
            self.missed |= any(_lacks_rows(each) for each in transactions)
        return transactions

    async def existing(self, batches: Collection[BatchId]) -> frozenset[BatchId]:
        """Return those of these batches that the ledger has."""
        if not batches:
            return frozenset()
        asked = list(batches)
        with ledger_failures():
            rows = await self._connection.fetch(
                _EXISTING, [batch.gateway_id for batch in asked], [batch.number for batch in asked]
            )
        return frozenset(BatchId(row["gateway_id"], row["number"]) for row in rows)

    async def keep(self, sums: LedgerSums, differences: Sequence[Difference], *, uncompared: bool) -> CellChecked:
        """Note how far this pass came and what it found; the transaction commits after it."""
        survey_id = self._survey_id
        whole = LedgerSums()
        whole.add(self.sums)
        whole.add(sums)
        with ledger_failures():
            await write_bits(self._connection, survey_id, sums.bits, replace=self._complete)
            bits = await read_bits(self._connection, survey_id)
            await self._connection.execute(
                _KEEP,
                survey_id,
                self._horizon.xid,
                self._horizon.participation_block,
                self._horizon.ballot_block,
                sums_json(whole),
                uncompared,
                self._complete,
            )
            await write_differences(self._connection, survey_id, differences)
            if self._complete:
                await clear_differences(self._connection, survey_id, LEDGER_KINDS, differences)
        return CellChecked(
            cell=self._cell,
            batches=len(bits),
            participations=whole.participations,
            ballots=whole.ballots,
            regions=whole.by_region(),
        )


class _Rows:
    """A cursor's rows in order, fetched many at a time: waiting for each would cost more than checking it."""

    def __init__(self, cursor: Any, size: int) -> None:
        self._cursor = cursor
        self._size = size
        self._rows: list[Any] = []
        self._at = 0

    async def _has_next(self) -> bool:
        if self._at == len(self._rows):
            self._rows, self._at = await self._cursor.fetch(self._size), 0
        return bool(self._rows)

    async def take_votes(self) -> list[Any]:
        """Return the next batches, some thousand votes of them; never a part of a transaction's."""
        taken: list[Any] = []
        votes = 0
        while await self._has_next():
            row = self._rows[self._at]
            full = votes >= _VOTES_PER_CHUNK or len(taken) >= _BATCHES_PER_CHUNK
            if full and row["xid"] != taken[-1]["xid"]:
                break
            taken.append(row)
            votes += len(row["outcomes"])
            self._at += 1
        return taken

    async def up_to(self, xid: int | None) -> list[Any]:
        """Return the rows of every transaction up to this one, or some thousand of those that are left (None)."""
        taken: list[Any] = []
        while await self._has_next():
            rows, at = self._rows, self._at
            if xid is None:
                self._at = len(rows)
                return rows[at:]
            end = bisect_right(rows, xid, at, key=_XID)
            taken += rows[at:end]
            self._at = end
            if end < len(rows):
                break
        return taken


def _transaction(chunk: dict[int, LedgerTransaction], xid: int) -> LedgerTransaction:
    found = chunk.get(xid)
    if found is None:
        found = chunk[xid] = LedgerTransaction(xid)
    return found


def _lacks_rows(transaction: LedgerTransaction) -> bool:
    due = sum(batch.outcomes.count(Outcome.RECORDED) for batch in transaction.batches)
    return due > min(len(transaction.participations), len(transaction.ballots))


def _batch(row: Any) -> BatchRow:
    counts: Iterable[list[Any]] = json.loads(row["counts"] or "[]")
    return BatchRow(
        batch=BatchId(row["gateway_id"], row["number"]),
        written_by=row["written_by"],
        outcomes=row["outcomes"],
        participations_root=row["participations_root"],
        ballots_root=row["ballots_root"],
        counts=tuple(CountRow(*count) for count in counts),
        entries=tuple(json.loads(row["entries"] or "[]")),
    )


def _participation(row: Any) -> ParticipationRow:
    return ParticipationRow._make(row[1:])  # behind the transaction come `_PARTICIPATION_COLUMNS`


def _ballot(row: Any) -> BallotRow:
    _, survey_id, ballot_id, gateway_id, number, sealed = row
    return BallotRow(survey_id, ballot_id.bytes, gateway_id, number, sealed)
