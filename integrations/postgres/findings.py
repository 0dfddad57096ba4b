"""What reconciliation keeps in the cells, as staff read it."""

import asyncio
from collections.abc import Mapping

import asyncpg

from domain.errors import DomainError
from domain.reconciliation_ports import CellFindings
from integrations.postgres.differences import read_open
from integrations.postgres.failures import ledger_failures
from integrations.postgres.ledger_sums import read_sums

_CHECKPOINT = "SELECT sums, checked_at, completed_at FROM reconciliation.checkpoint WHERE survey_id = $1"


class CellFindingsReader:
    """Implements `FindingsReader`; made for the role `comitia_surveys` in every cell."""

    def __init__(self, pools: Mapping[str, asyncpg.Pool]) -> None:
        self._pools = pools

    async def findings(self, survey_id: str) -> tuple[tuple[CellFindings, ...], tuple[str, ...]]:
        """Return what every cell that answers has, in order, and the cells that do not answer."""
        cells = sorted(self._pools)
        found = await asyncio.gather(*(self._of(cell, survey_id) for cell in cells))
        missing = tuple(cell for cell, each in zip(cells, found, strict=True) if each is None)
        return tuple(each for each in found if each is not None), missing

    async def _of(self, cell: str, survey_id: str) -> CellFindings | None:
        pool = self._pools[cell]
        try:
            with ledger_failures():
                kept = await pool.fetchrow(_CHECKPOINT, survey_id)
                differences = await read_open(pool, survey_id)
        except DomainError:
            return None
        if kept is None:
            return CellFindings(cell, 0, 0, (), differences)
        sums = read_sums(kept["sums"])
        return CellFindings(
            cell=cell,
            participations=sums.participations,
            ballots=sums.ballots,
            regions=sums.by_region(),
            differences=differences,
            checked_at=kept["checked_at"],
            completed_at=kept["completed_at"],
        )
