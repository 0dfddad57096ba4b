"""What reconciliation needs from the outside."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.batch_bits import BatchKey
from domain.contracts.reconciliation import CellChecked, Difference, DifferenceKind, RegionSums
from domain.ids import BatchId
from domain.ledger_rows import LedgerTransaction
from domain.ledger_sums import LedgerSums
from domain.reconciliation import EvidenceCheck
from domain.tally import Counts
from domain.tally_comparison import FoldedTally, LedgerTotals


class LedgerPass(Protocol):
    """One reading of a survey's rows in a cell, in one snapshot and under a lock that keeps other passes out."""

    is_installed: bool  # whether the cell has the survey
    sums: LedgerSums  # what everything before this pass came to; of its batches nothing but how many they are
    uncompared: bool  # an earlier pass could not look for its nullifiers everywhere
    missed: bool  # rows of a batch were not where new rows are looked for: read again, `everywhere`

    def transactions(self, *, everywhere: bool) -> AsyncIterator[list[LedgerTransaction]]:
        """Yield every transaction that is over and that no earlier pass has seen, some at a time."""
        ...

    async def existing(self, batches: Collection[BatchId]) -> frozenset[BatchId]:
        """Return those of these batches that the ledger has."""
        ...

    async def keep(self, sums: LedgerSums, differences: Sequence[Difference], *, uncompared: bool) -> CellChecked:
        """Note how far this pass came and what it found, in one commit.

        `sums` are those of the new transactions. What a complete pass does not find again is cleared.
        """
        ...


class TotalsView(Protocol):
    """A survey's counts in one snapshot of a ledger."""

    totals: LedgerTotals

    async def batches(self, keys: Collection[BatchKey]) -> Mapping[BatchKey, tuple[Counts, float]]:
        """Return what each of these batches counts, and how many seconds ago it was recorded."""
        ...


class LedgerAudit(Protocol):
    """What reconciliation reads of one cell's ledger and keeps beside it. Raises DomainError `ledger_unavailable`."""

    def open_pass(self, survey_id: str, *, complete: bool) -> AbstractAsyncContextManager[LedgerPass]:
        """Begin a pass; a complete one has seen nothing before. Raises also where another pass runs."""
        ...

    def open_totals(self, survey_id: str) -> AbstractAsyncContextManager[TotalsView]:
        """Open a snapshot of this instant."""
        ...

    async def holds(self, survey_id: str, nullifiers: Sequence[bytes]) -> list[bytes]:
        """Return those of these nullifiers that took part in this cell."""
        ...

    async def count_participations(self, survey_id: str) -> int:
        """Return about how many took part in this cell, from 0."""
        ...

    async def nullifiers(self, survey_id: str, first: bytes, end: bytes | None) -> set[bytes]:
        """Return the nullifiers from `first` up to, not including, `end` (None: to the last)."""
        ...

    async def keep_differences(
        self,
        survey_id: str,
        kinds: Collection[DifferenceKind],
        differences: Sequence[Difference],
        repaired: Sequence[Difference] = (),
        *,
        compared: bool = False,
    ) -> None:
        """Keep what is different, note what is repaired, and clear what of these kinds is not different any more.

        `compared` says besides that every nullifier was looked for everywhere.
        """
        ...

    async def open_differences(self, survey_id: str) -> tuple[Difference, ...]:
        """Return what is open, at most a few hundred, of which the last of a kind says how many more there are."""
        ...


class TallyAudit(Protocol):
    """Reads one cell's tally. Raises DomainError `tally_unavailable`."""

    async def read(self, survey_id: str) -> FoldedTally | None:
        """Return totals and folded batches of one instant, or None where there are none."""
        ...


class TallyRepair(Protocol):
    """Puts the ledger's totals in place of a cell's tally while votes go on."""

    async def rebuild(self, survey_id: str, reason: str) -> int | None:
        """Return the new epoch, or None where somebody else's rebuild came later and stays.

        Raises:
            DomainError: `ledger_unavailable`, `broker_unavailable` or `tally_unavailable`; nothing has changed.
        """
        ...


class EvidenceKeys(Protocol):
    """The issuer's public keys, those that were retired too."""

    async def check_for(self, cell: str) -> EvidenceCheck:
        """Return the check of evidence for one cell; it may be handed to other threads and processes.

        Raises:
            DomainError: `key_unavailable`, also where there is no key at all.
        """
        ...


class ReconciliationWatch(Protocol):
    """Tells operators what passes came to."""

    def checked(self, checked: CellChecked, seconds: float, *, complete: bool) -> None:
        """Hear of a pass over one cell's ledger."""
        ...

    def found(self, survey_id: str, differences: Iterable[Difference]) -> None:
        """Hear of differences, right after they were kept."""
        ...

    def repaired(self, survey_id: str, differences: Iterable[Difference]) -> None:
        """Hear of differences that were repaired."""
        ...


@dataclass(frozen=True, slots=True)
class CellFindings:
    """What passes came to in one cell: `checked_at` is the last pass, `completed_at` the last complete one."""

    cell: str
    participations: int
    ballots: int
    regions: tuple[RegionSums, ...]
    differences: tuple[Difference, ...]
    checked_at: datetime | None = None
    completed_at: datetime | None = None


class FindingsReader(Protocol):
    """Reads what reconciliation keeps."""

    async def findings(self, survey_id: str) -> tuple[tuple[CellFindings, ...], tuple[str, ...]]:
        """Return what every cell that answers has, in order, and the cells that do not answer."""
        ...
