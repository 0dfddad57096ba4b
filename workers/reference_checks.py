"""Shows what is open and what dangles: counts references once an hour, and brings metrics up to date."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from domain.errors import DomainError
from integrations.postgres.published_surveys import PublishedSurveys
from integrations.postgres.references import CellReferences
from integrations.telemetry.reconciliation_metrics import ReconciliationMetrics

_SHOW_EVERY_S = 15.0
COUNT_EVERY = timedelta(hours=1)

log = structlog.get_logger()


class ReferenceChecks:
    """Every process shows the same: what was counted is kept in the cells, by whoever comes first after an hour."""

    def __init__(
        self,
        surveys: PublishedSurveys,
        cells: Mapping[str, CellReferences],
        metrics: ReconciliationMetrics,
        *,
        count_every: timedelta = COUNT_EVERY,
    ) -> None:
        self._surveys = surveys
        self._cells = cells
        self._metrics = metrics
        self._count_every = count_every
        self._away: set[str] = set()

    async def run(self) -> None:
        """Count and show until cancelled; a cell that is away keeps its last figures."""
        while True:
            for cell in self._cells:
                try:
                    await self.show(cell)
                except DomainError as error:
                    if cell not in self._away:
                        log.warning("references_not_counted", cell=cell, code=error.code)
                    self._away.add(cell)
                else:
                    self._away.discard(cell)
            await asyncio.sleep(_SHOW_EVERY_S)

    async def show(self, cell: str) -> None:
        """Show one cell's open differences and dangling references, counted where the last count is old.

        Raises:
            DomainError: `ledger_unavailable` or `catalogue_unavailable`.
        """
        references = self._cells[cell]
        self._metrics.show_open(cell, await references.open_by_kind())
        counts = await references.counted(self._count_every)
        if counts is None:
            counts = await references.count(await self._surveys.stages())
            found = {kind: count for kind, count in counts.items() if count}
            (log.warning if found else log.info)("references_counted", cell=cell, dangling=found)
        self._metrics.show_dangling(cell, counts)
