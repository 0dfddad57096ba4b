"""Compares what a cell's ledger, its tally and the other cells say of a survey, and repairs the tally."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from activities.heartbeats import heartbeating
from activities.known_cells import known
from activities.ledger_reading import LedgerReading
from activities.tally_looking import TallyLooking
from domain.contracts.reconciliation import (
    REPAIRABLE,
    CellChecked,
    CheckCellInput,
    CompareCellsInput,
    ComparedTally,
    Difference,
    DifferenceKind,
    KeepTallyInput,
    OpenDifferences,
    OpenDifferencesInput,
    RepairTallyInput,
)
from domain.errors import DomainError
from domain.nullifier_ranges import nullifier_ranges
from domain.reconciliation import participation_name
from domain.reconciliation_ports import EvidenceKeys, LedgerAudit, ReconciliationWatch, TallyAudit, TallyRepair

REPAIR_REASON = "reconciliation"


@dataclass(frozen=True, slots=True)
class CellPorts:
    """What reconciliation needs of one cell."""

    ledger: LedgerAudit
    tally: TallyAudit
    repair: TallyRepair


class ReconciliationActivities:
    """Reads ledgers and tallies; holds the ports so that a test can pass its own."""

    def __init__(
        self, cells: Mapping[str, CellPorts], evidence: EvidenceKeys, watch: ReconciliationWatch, executor: Executor
    ) -> None:
        """`executor` runs the checks of rows, which take the processor and nothing else; it may be other processes."""
        self._cells = cells
        self._evidence = evidence
        self._watch = watch
        self._executor = executor

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.check_ledger,
            self.compare_tally,
            self.repair_tally,
            self.keep_tally,
            self.compare_cells,
            self.open_differences,
        ]

    @activity.defn(name="check_ledger")
    async def check_ledger(self, request: CheckCellInput) -> CellChecked:
        """Check what is new in one cell's ledger, or everything; keep what was found and how far it came.

        Safe to repeat: findings and progress are one commit, so what was checked is either known or checked again.

        Raises:
            ApplicationError: `ledger_unavailable`, also while another pass reads this survey; `key_unavailable`
                (retried).
        """
        began = time.monotonic()
        async with _guarded():
            others = {cell: self._ledger(cell) for cell in request.others}
            reading = LedgerReading(request, self._ledger(request.cell), others, self._evidence, self._executor)
            checked, differences = await reading.run()
        self._watch.checked(checked, time.monotonic() - began, complete=request.complete)
        self._watch.found(request.survey_id, differences)
        return checked

    @activity.defn(name="compare_tally")
    async def compare_tally(self, request: CheckCellInput) -> ComparedTally:
        """Compare one cell's tally with its ledger, batch by batch and count by count; change nothing.

        A tally that is behind gets a moment, a complete pass the whole of its grace, to come by itself.

        Raises:
            ApplicationError: `ledger_unavailable` or `tally_unavailable` (retried).
        """
        async with _guarded():
            cell = known(self._cells, request.cell)
            compared = await TallyLooking(request, cell.ledger, cell.tally).run()
            before = await cell.ledger.open_differences(request.survey_id)
        open_before = any(difference.kind in REPAIRABLE for difference in before)
        return compared.model_copy(update={"open_before": open_before})

    @activity.defn(name="repair_tally")
    async def repair_tally(self, request: RepairTallyInput) -> None:
        """Put the ledger's totals in place of the tally's. Safe to repeat, and while votes come in.

        Raises:
            ApplicationError: `ledger_unavailable`, `broker_unavailable` or `tally_unavailable` (retried).
        """
        async with _guarded():
            await known(self._cells, request.cell).repair.rebuild(request.survey_id, REPAIR_REASON)

    @activity.defn(name="keep_tally")
    async def keep_tally(self, request: KeepTallyInput) -> None:
        """Keep what a comparison of the tally came to; what is not different any more is cleared. Safe to repeat.

        Raises:
            ApplicationError: `ledger_unavailable` (retried).
        """
        async with _guarded():
            await self._ledger(request.cell).keep_differences(
                request.survey_id, REPAIRABLE, request.differences, request.repaired
            )
        self._watch.found(request.survey_id, request.differences)
        self._watch.repaired(request.survey_id, request.repaired)

    @activity.defn(name="compare_cells")
    async def compare_cells(self, request: CompareCellsInput) -> int:
        """Compare every nullifier of a survey between cells; return how many are in more than one.

        Memory is bounded: the nullifiers are taken range by range. Safe to repeat.

        Raises:
            ApplicationError: `ledger_unavailable` (retried).
        """
        async with _guarded():
            ledgers = {cell: self._ledger(cell) for cell in sorted(request.cells)}
            twice = await _in_several(request.survey_id, ledgers)
            for cell, ledger in ledgers.items():
                differences = [
                    _twice(cell, other, nullifier)
                    for nullifier, cells in sorted(twice.items())
                    if cell in cells
                    for other in cells
                    if other != cell
                ]
                kinds = {DifferenceKind.NULLIFIER_IN_TWO_CELLS}
                await ledger.keep_differences(request.survey_id, kinds, differences, compared=True)
                self._watch.found(request.survey_id, differences)
        return len(twice)

    @activity.defn(name="open_differences")
    async def open_differences(self, request: OpenDifferencesInput) -> OpenDifferences:
        """Return the open differences of one cell, whichever pass found them.

        Raises:
            ApplicationError: `ledger_unavailable` (retried).
        """
        async with _guarded():
            found = await self._ledger(request.cell).open_differences(request.survey_id)
        return OpenDifferences(differences=found)

    def _ledger(self, cell: str) -> LedgerAudit:
        return known(self._cells, cell).ledger


@asynccontextmanager
async def _guarded() -> AsyncIterator[None]:
    try:
        async with heartbeating():
            yield
    except DomainError as error:
        raise to_application_error(error) from error


async def _in_several(survey_id: str, ledgers: Mapping[str, LedgerAudit]) -> dict[bytes, tuple[str, ...]]:
    """Return the nullifiers that are in more than one cell, with these cells."""
    largest = max(await asyncio.gather(*(ledger.count_participations(survey_id) for ledger in ledgers.values())))
    twice: dict[bytes, tuple[str, ...]] = {}
    for first, end in nullifier_ranges(largest):
        found = await asyncio.gather(*(ledger.nullifiers(survey_id, first, end) for ledger in ledgers.values()))
        seen: set[bytes] = set()
        for there in found:
            for nullifier in seen & there:
                twice[nullifier] = tuple(c for c, has in zip(ledgers, found, strict=True) if nullifier in has)
            seen |= there
    return twice


def _twice(cell: str, other: str, nullifier: bytes) -> Difference:
    return Difference(
        kind=DifferenceKind.NULLIFIER_IN_TWO_CELLS,
        cell=cell,
        detail="the same nullifier took part in another cell",
        participation=participation_name(nullifier),
        other_cell=other,
    )
