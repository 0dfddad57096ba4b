"""What the rows of a survey in one cell add up to, and where those sums do not agree. No I/O."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from domain.batch_bits import BatchBits
from domain.contracts.reconciliation import Difference, DifferenceKind, RegionSums
from domain.ids import BatchId
from domain.ledger_rows import CountRow


@dataclass(slots=True)
class _RegionSum:
    participations: int = 0
    counted: int = 0
    options: Counter[str] = field(default_factory=Counter)


class LedgerSums:
    """What a survey's rows in one cell add up to; `bits` are the batches that count for it."""

    def __init__(self) -> None:
        self.ballots = 0
        self.regions: dict[str, _RegionSum] = {}
        self.bits = BatchBits()

    def of(self, region: str) -> _RegionSum:
        """Return the sums of a region, to be added to."""
        found = self.regions.get(region)
        if found is None:
            found = self.regions[region] = _RegionSum()
        return found

    def count(self, batch: BatchId, counts: Iterable[CountRow]) -> None:
        """Add what a batch counts for the survey; nothing where it counts nothing."""
        rows = tuple(counts)
        for row in rows:
            region = self.of(row.region)
            region.counted += row.ballots
            region.options.update(row.options)
        if rows:
            self.bits.add(batch.gateway_id.hex(), batch.number)

    def add(self, other: "LedgerSums") -> None:
        """Add other sums to these."""
        self.ballots += other.ballots
        for name, more in other.regions.items():
            region = self.of(name)
            region.participations += more.participations
            region.counted += more.counted
            region.options.update(more.options)
        self.bits.include(other.bits.chunks)

    @property
    def participations(self) -> int:
        """Participations of all regions."""
        return sum(region.participations for region in self.regions.values())

    @property
    def counted(self) -> int:
        """Ballots of all regions by the counts of their batches."""
        return sum(region.counted for region in self.regions.values())

    def by_region(self) -> tuple[RegionSums, ...]:
        """Return the sums of each region, in order."""
        return tuple(
            RegionSums(
                region=name,
                participations=found.participations,
                counted=found.counted,
                options=dict(sorted(found.options.items())),
            )
            for name, found in sorted(self.regions.items())
        )


def check_sums(cell: str, sums: LedgerSums) -> list[Difference]:
    """Return where a survey's participations, ballots and counts do not come to the same."""
    found = [
        Difference(
            kind=DifferenceKind.TOTALS_DIFFER,
            cell=cell,
            detail="participations of the region, and ballots that its batches count",
            region=name,
            expected=region.participations,
            found=region.counted,
        )
        for name, region in sorted(sums.regions.items())
        if region.participations != region.counted
    ]
    if sums.participations != sums.ballots:
        found.append(
            Difference(
                kind=DifferenceKind.TOTALS_DIFFER,
                cell=cell,
                detail="participations of the survey, and its ballots",
                expected=sums.participations,
                found=sums.ballots,
            )
        )
    return found
