"""Participations of one cell by the transaction that wrote them, which is all that binds them to their batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from domain.receipts import Participation
from integrations.postgres.failures import ledger_failures

# Before and behind a participation those of its batch are looked for in so many blocks, then in more, then everywhere:
# one statement wrote them, so they stand together unless it filled what a rolled-back transaction had left
_BLOCKS: Final = (64, 4096)

# The whole number of a row's transaction, of which the row has 32 bits; see integrations/postgres/ledger_pass.py
_NEXT = """
WITH latest AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid),
    next AS (SELECT xid + age((xid & 4294967295)::text::xid) AS xid FROM latest)
"""
_XID = "(next.xid - (age(participation.xmin)::bigint & 4294967295))"
_OWN = f"""{_NEXT}
SELECT survey_id, nullifier, evidence, region, {_XID} AS transaction,
    (participation.ctid::text::point)[0]::bigint AS block
FROM voting.participation, next WHERE survey_id = $1 AND nullifier = $2
"""  # noqa: S608 - constants, here and below
_TOGETHER = f"""{_NEXT}
SELECT survey_id, nullifier, evidence, region FROM voting.participation, next
WHERE participation.ctid >= format('(%s,0)', $1::bigint)::tid AND participation.ctid < format('(%s,0)', $2::bigint)::tid
    AND {_XID} = $3
"""  # noqa: S608
_EVERYWHERE = "SELECT pg_relation_size('voting.participation') / current_setting('block_size')::bigint"
_PLACE = "SELECT audit.place_of_batch($1::text::xid8)"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A participation, the transaction that wrote it, and the block of the table that it is in."""

    participation: Participation
    transaction: int
    block: int


class PostgresParticipations:
    """Reads as the role `comitia_voting`. All calls raise DomainError `ledger_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def of(self, survey_id: str, nullifier: bytes) -> Recorded | None:
        """Return the participation of a nullifier, or None."""
        with ledger_failures():
            row = await self._pool.fetchrow(_OWN, survey_id, nullifier)
        return None if row is None else Recorded(_participation(row), row["transaction"], row["block"])

    async def place_of_batch(self, transaction: int) -> int | None:
        """Return the place of the audit entry of the batch that a transaction recorded; None where it has none yet."""
        with ledger_failures():
            place: int | None = await self._pool.fetchval(_PLACE, str(transaction))
        return place

    async def of_batch(self, recorded: Recorded, count: int) -> Sequence[Participation]:
        """Return the `count` participations that a transaction wrote; fewer where there are not so many anywhere."""
        found: list[Participation] = []
        with ledger_failures():
            end = await self._pool.fetchval(_EVERYWHERE)
            for first, last in (*((recorded.block - n, recorded.block + n) for n in _BLOCKS), (0, end)):
                rows = await self._pool.fetch(_TOGETHER, max(0, first), last + 1, recorded.transaction)
                found = list(map(_participation, rows))
                if len(found) >= count:
                    break
        return found


def _participation(row: Any) -> Participation:
    return Participation(row["survey_id"], row["nullifier"], row["evidence"], row["region"])
