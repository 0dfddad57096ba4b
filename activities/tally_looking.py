"""Looks at a tally beside its ledger until what is late has come, or has had its time."""

import asyncio
import time
from collections.abc import Collection

from domain.batch_bits import BatchKey
from domain.contracts.reconciliation import CheckCellInput, ComparedTally
from domain.reconciliation_ports import LedgerAudit, TallyAudit
from domain.tally_comparison import compare_tally, far_behind, is_missing, unfolded_batches

_SECOND_LOOK_S = 5.0  # an incremental pass gives what is late this much more, so that a slow commit is no lag
_EVERY_S = 0.2
_LOOKED_AT_MAX = 20_000  # batches; a tally that is further behind is behind, whatever its totals say


class TallyLooking:
    """One comparison."""

    def __init__(self, request: CheckCellInput, ledger: LedgerAudit, tally: TallyAudit) -> None:
        self._request = request
        self._ledger = ledger
        self._tally = tally
        self._awaited: frozenset[BatchKey] | None = None

    async def run(self) -> ComparedTally:
        """Return how the tally stands: what is late at the last look, or what was wrong at any.

        Raises:
            DomainError: `ledger_unavailable` or `tally_unavailable`.
        """
        grace = self._request.tally_grace_s
        deadline = time.monotonic() + (grace if self._request.complete else min(grace, _SECOND_LOOK_S))
        while True:
            compared, is_late = await self._look()
            if not is_late or time.monotonic() >= deadline:
                return compared
            await asyncio.sleep(_EVERY_S)

    async def _look(self) -> tuple[ComparedTally, bool]:
        """Return how it stands now, and whether waiting may help."""
        cell, survey_id = self._request.cell, self._request.survey_id
        tally = await self._tally.read(survey_id)
        async with self._ledger.open_totals(survey_id) as view:
            ledger = view.totals
            unfolded = unfolded_batches(ledger, tally)
            if is_missing(ledger, tally):
                return compare_tally(cell, ledger, tally, {key: {} for key in unfolded}, frozenset()), True
            if len(unfolded) > _LOOKED_AT_MAX:
                return far_behind(cell, ledger, tally, unfolded), True
            batches = await view.batches(unfolded)
        late = self._late(unfolded, {key: age for key, (_, age) in batches.items()})
        counts = {key: batches[key][0] if key in batches else {} for key in unfolded}
        return compare_tally(cell, ledger, tally, counts, late), bool(late)

    def _late(self, unfolded: Collection[BatchKey], ages_s: dict[BatchKey, float]) -> frozenset[BatchKey]:
        """Return what is waited for: in a complete pass all that was recorded by the first look, else what is old."""
        if self._awaited is None:
            grace = self._request.tally_grace_s
            complete = self._request.complete
            self._awaited = frozenset(key for key in unfolded if complete or ages_s.get(key, grace) >= grace)
        return self._awaited.intersection(unfolded)
