"""A tally must be what its batches count, whatever it has not folded yet."""

from domain.batch_bits import BatchBits
from domain.contracts.reconciliation import DifferenceKind
from domain.tally import BALLOTS, Counts
from domain.tally_comparison import FoldedTally, LedgerTotals, compare_tally, far_behind, is_missing, unfolded_batches

GATEWAY = "ab" * 16
ONE: Counts = {("north", BALLOTS): 2, ("north", "1"): 2}
TWO: Counts = {("north", BALLOTS): 1, ("north", "2"): 1}
BOTH: Counts = {("north", BALLOTS): 3, ("north", "1"): 2, ("north", "2"): 1}


def bits(*numbers: int) -> BatchBits:
    found = BatchBits()
    for number in numbers:
        found.add(GATEWAY, number)
    return found


LEDGER = LedgerTotals(1, BOTH, bits(1, 2))


def test_a_batch_that_is_not_folded_yet_is_no_difference() -> None:
    tally = FoldedTally(1, ONE, bits(1))
    assert unfolded_batches(LEDGER, tally) == [(GATEWAY, 2)]
    compared = compare_tally("eu", LEDGER, tally, {(GATEWAY, 2): TWO}, frozenset())
    assert (compared.tallied, compared.announced, compared.waiting, compared.differences) == (2, 1, 1, ())


def test_a_late_batch_is_named_and_its_votes_are_not_said_to_be_missing_twice() -> None:
    tally = FoldedTally(1, ONE, bits(1))
    compared = compare_tally("eu", LEDGER, tally, {(GATEWAY, 2): TWO}, frozenset({(GATEWAY, 2)}))
    assert [(found.kind, found.batch) for found in compared.differences] == [
        (DifferenceKind.TALLY_BEHIND, f"{GATEWAY}-2")
    ]
    assert compared.waiting == 0


def test_a_bit_without_its_votes_is_a_difference_of_totals() -> None:
    compared = compare_tally("eu", LEDGER, FoldedTally(1, ONE, bits(1, 2)), {}, frozenset())
    assert [(found.kind, found.option, found.expected, found.found) for found in compared.differences] == [
        (DifferenceKind.TALLY_TOTALS_DIFFER, "", 3, 2),
        (DifferenceKind.TALLY_TOTALS_DIFFER, "2", 1, 0),
    ]


def test_a_tally_of_an_earlier_rebuild_is_missing_and_one_of_nothing_is_not() -> None:
    assert is_missing(LEDGER, None)
    assert is_missing(LedgerTotals(2, {}, bits()), FoldedTally(1, {}, bits()))
    assert not is_missing(LedgerTotals(0, {}, bits()), None)
    assert compare_tally("eu", LedgerTotals(0, {}, bits()), None, {}, frozenset()).differences == ()


def test_of_many_batches_some_are_named_and_the_rest_is_counted() -> None:
    ledger = LedgerTotals(1, BOTH, bits(*range(1, 101)))
    compared = far_behind("eu", ledger, FoldedTally(1, {}, bits()), [(GATEWAY, number) for number in range(1, 101)])
    assert len(compared.differences) == 50
    assert [found.more for found in compared.differences] == [0] * 49 + [50]
