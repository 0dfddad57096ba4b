"""What the ledger of one cell tells about batches that are, or are not, recorded."""

from collections.abc import Collection

import asyncpg

from domain.draining import ClosingWindow, GatewayRows
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId
from integrations.postgres.failures import ledger_failures

_WINDOW = "SELECT start_at, finish_at, clock_timestamp() AS now FROM voting.survey WHERE survey_id = $1"

# Of any age: when one was written down is said by the database's clock, when its batches were accepted by Temporal's.
_GATEWAYS = """
SELECT gateway.gateway_id, batches_in_flight, coalesce(max(number), 0) AS highest, count(number) AS recorded
FROM voting.gateway LEFT JOIN voting.batch USING (gateway_id)
GROUP BY gateway.gateway_id, batches_in_flight ORDER BY gateway.gateway_id
"""

_HOLES = """
SELECT number FROM generate_series(1, $2::bigint) AS number
WHERE NOT EXISTS (SELECT FROM voting.batch WHERE batch.gateway_id = $1 AND batch.number = number.number)
"""

_REGISTERED = "SELECT gateway_id FROM voting.gateway WHERE gateway_id = ANY($1::bytea[])"

_IS_RECORDED = "SELECT EXISTS (SELECT FROM voting.batch WHERE gateway_id = $1 AND number = $2)"


class PostgresClosingLedger:
    """Implements `ClosingLedger`; made for the role `comitia_certification` in a cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def window(self, survey_id: str) -> ClosingWindow:
        """Return the end of a survey by the cell's clock. Raises `survey_not_found`, `ledger_unavailable`."""
        with ledger_failures():
            row = await self._pool.fetchrow(_WINDOW, survey_id)
        if row is None:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND, "not installed in this cell")
        return ClosingWindow(row["start_at"], row["finish_at"], row["now"])

    async def gateways(self) -> tuple[GatewayRows, ...]:
        """Return every gateway. Raises `ledger_unavailable`."""
        found = []
        with ledger_failures():
            for row in await self._pool.fetch(_GATEWAYS):
                holes: tuple[int, ...] = ()
                if row["recorded"] < row["highest"]:
                    rows = await self._pool.fetch(_HOLES, row["gateway_id"], row["highest"])
                    holes = tuple(hole["number"] for hole in rows)
                found.append(GatewayRows(row["gateway_id"], row["batches_in_flight"], row["highest"], holes))
        return tuple(found)

    async def registered(self, gateways: Collection[bytes]) -> set[bytes]:
        """Return those of these gateways that have a row. Raises `ledger_unavailable`."""
        with ledger_failures():
            rows = await self._pool.fetch(_REGISTERED, list(gateways))
        return {row["gateway_id"] for row in rows}

    async def is_recorded(self, batch: BatchId) -> bool:
        """Tell whether a batch has its row. Raises `ledger_unavailable`."""
        with ledger_failures():
            return bool(await self._pool.fetchval(_IS_RECORDED, batch.gateway_id, batch.number))
