"""How a survey's tally in one cell must stand against the ledger, at any instant of a busy day. No I/O.

The tally is read first, the ledger after it, so every batch that the tally has folded is in what the ledger shows. What
it has folded must be exactly what these batches count; what it has not folded yet is late or not, and that is all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.batch_bits import BatchBits, BatchKey
from domain.contracts.reconciliation import ComparedTally, Difference, DifferenceKind
from domain.tally import BALLOTS, Counts

_NAMED_MAX = 50  # batches or counts named one by one; the last of them says how many more there are


@dataclass(frozen=True, slots=True)
class FoldedTally:
    """What Redis has of a survey, read at one instant: the totals, and every batch that is in them."""

    epoch: int
    counts: Counts
    bits: BatchBits


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """What the ledger counts for a survey, in one snapshot; `epoch` is the rebuild that Redis has to have."""

    epoch: int
    counts: Counts
    bits: BatchBits


def unfolded_batches(ledger: LedgerTotals, tally: FoldedTally | None) -> list[BatchKey]:
    """Return the batches that the ledger counts and the tally has not folded."""
    return list(ledger.bits.without(tally.bits if tally is not None else BatchBits()))


def is_missing(ledger: LedgerTotals, tally: FoldedTally | None) -> bool:
    """Tell whether the tally lost what it had, or never had what the ledger counts."""
    if tally is None:
        return bool(ledger.epoch or ledger.counts)
    return tally.epoch < ledger.epoch


def compare_tally(
    cell: str,
    ledger: LedgerTotals,
    tally: FoldedTally | None,
    unfolded: Mapping[BatchKey, Counts],
    late: frozenset[BatchKey],
) -> ComparedTally:
    """Return how the tally stands.

    `unfolded` are the batches that it has not folded, with what they count; `late` are those of them that it should
    have folded by now.
    """
    if is_missing(ledger, tally):
        missing = Difference(
            kind=DifferenceKind.TALLY_MISSING,
            cell=cell,
            detail="the tally has no totals of the survey, or those before its last rebuild",
            expected=len(ledger.bits),
            found=0,
        )
        return ComparedTally(waiting=len(unfolded), differences=(missing,))
    if tally is None:
        return ComparedTally()
    due = dict(ledger.counts)
    for counts in unfolded.values():
        for key, votes in counts.items():
            due[key] = due.get(key, 0) - votes
    unknown = list(tally.bits.without(ledger.bits))
    return ComparedTally(
        tallied=sum(votes for (_, option), votes in tally.counts.items() if option == BALLOTS),
        announced=len(tally.bits),
        waiting=len(unfolded) - len(late),
        differences=(
            *_batches(cell, DifferenceKind.TALLY_BEHIND, "recorded and not folded", sorted(late)),
            *_batches(cell, DifferenceKind.TALLY_BATCH_UNKNOWN, "folded, and the ledger has no such batch", unknown),
            *_totals(cell, due, tally.counts),
        ),
    )


def _batches(cell: str, kind: DifferenceKind, detail: str, batches: list[BatchKey]) -> list[Difference]:
    named = batches[:_NAMED_MAX]
    return [
        Difference(
            kind=kind,
            cell=cell,
            detail=detail,
            batch=f"{gateway}-{number}",
            more=len(batches) - len(named) if place == len(named) - 1 else 0,
        )
        for place, (gateway, number) in enumerate(named)
    ]


def _totals(cell: str, due: Counts, found: Counts) -> list[Difference]:
    wrong = [key for key in sorted(due.keys() | found.keys()) if due.get(key, 0) != found.get(key, 0)]
    named = wrong[:_NAMED_MAX]
    return [
        Difference(
            kind=DifferenceKind.TALLY_TOTALS_DIFFER,
            cell=cell,
            detail="ballots of the region" if option == BALLOTS else "votes for the option",
            region=region,
            option=option,
            expected=due.get((region, option), 0),
            found=found.get((region, option), 0),
            more=len(wrong) - len(named) if place == len(named) - 1 else 0,
        )
        for place, (region, option) in enumerate(named)
    ]


def far_behind(cell: str, ledger: LedgerTotals, tally: FoldedTally | None, unfolded: list[BatchKey]) -> ComparedTally:
    """Return how a tally stands that has so much before it that nothing more can be said of its totals."""
    return ComparedTally(
        announced=0 if tally is None else len(tally.bits),
        differences=tuple(
            difference.model_copy(update={"expected": len(ledger.bits)})
            for difference in _batches(cell, DifferenceKind.TALLY_BEHIND, "recorded and not folded", unfolded)
        ),
    )
