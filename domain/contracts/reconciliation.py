"""What reconciliation compares, and what it says where two things that must agree do not."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract


class DifferenceKind(StrEnum):
    """Stable codes: added to, never reused, never renamed."""

    # Rows of the ledger that belong to no batch, or to another one than they say
    PARTICIPATION_WITHOUT_BATCH = "participation_without_batch"
    BALLOT_WITHOUT_BATCH = "ballot_without_batch"
    BALLOT_OF_ANOTHER_TRANSACTION = "ballot_of_another_transaction"
    COUNT_OF_ANOTHER_TRANSACTION = "count_of_another_transaction"

    # A batch that does not add up, or is not what its roots and its audit entry commit to
    BATCH_PARTICIPATIONS_DIFFER = "batch_participations_differ"
    BATCH_BALLOTS_DIFFER = "batch_ballots_differ"
    BATCH_COUNTS_DIFFER = "batch_counts_differ"
    PARTICIPATIONS_ROOT_DIFFERS = "participations_root_differs"
    BALLOTS_ROOT_DIFFERS = "ballots_root_differs"
    BATCH_TRANSACTION_DIFFERS = "batch_transaction_differs"
    AUDIT_ENTRY_MISSING = "audit_entry_missing"
    AUDIT_ENTRY_DIFFERS = "audit_entry_differs"

    # Whoever is behind a nullifier was not admitted, or took part twice
    EVIDENCE_INVALID = "evidence_invalid"
    NULLIFIER_IN_TWO_CELLS = "nullifier_in_two_cells"

    # A cell as a whole
    SURVEY_NOT_INSTALLED = "survey_not_installed"
    TOTALS_DIFFER = "totals_differ"

    # The tally, which can be repaired from the ledger
    TALLY_MISSING = "tally_missing"
    TALLY_BEHIND = "tally_behind"
    TALLY_BATCH_UNKNOWN = "tally_batch_unknown"
    TALLY_TOTALS_DIFFER = "tally_totals_differ"


REPAIRABLE = frozenset(
    {
        DifferenceKind.TALLY_MISSING,
        DifferenceKind.TALLY_BEHIND,
        DifferenceKind.TALLY_BATCH_UNKNOWN,
        DifferenceKind.TALLY_TOTALS_DIFFER,
    }
)


class Difference(Contract):
    """Two things that must agree and do not; the row concerned is named by the fields that are not empty.

    A participation is named by the SHA-256 of its nullifier in hexadecimal: whoever may read the ledger finds the row
    by it, and it says nothing to anybody else. It never stands beside a batch, a ballot or an option.
    """

    kind: DifferenceKind
    cell: str
    detail: str  # what was compared, in words; no nullifier, no choice
    batch: str = ""  # the gateway's id in hexadecimal, and the number there: `{32 digits}-{number}`
    ballot: str = ""
    participation: str = ""
    region: str = ""
    option: str = ""
    other_cell: str = ""
    expected: int | None = None  # what the side that is believed has
    found: int | None = None
    more: int = 0  # further ones of this kind in this cell that are not listed one by one


class RegionSums(Contract):
    """What a cell's ledger has of one region; `options` by option id. Ballots are sealed, so they have no region."""

    region: str
    participations: int
    counted: int  # ballots of the region by the counts of its batches
    options: dict[str, int]


class CellChecked(Contract):
    """What was compared in one cell.

    Of the ledger: every transaction that was over before the pass began, `transactions` of them new in this pass.
    `tallied` are the ballots in the totals that everyone sees. `announced` are batches that the tally has folded,
    `waiting` those that it has not folded yet and still has time for.
    """

    cell: str
    batches: int = 0
    participations: int = 0
    ballots: int = 0
    regions: tuple[RegionSums, ...] = ()
    tallied: int = 0
    announced: int = 0
    waiting: int = 0
    transactions: int = 0
    evidence_checked: int = 0
    compared_with: tuple[str, ...] = ()  # cells in which the new nullifiers of this one were looked for
    uncompared: bool = False  # some were not looked for everywhere: all of them have to be compared


class ReconcileSurveyInput(Contract):
    """A survey to reconcile in these cells.

    A complete pass reads everything again and waits for a cell that is away; an incremental one reads what is new
    since the last pass of either kind, and leaves out what it cannot reach. A batch that the tally does not have
    after `tally_grace_s` is a difference.
    """

    survey_id: str
    cells: tuple[str, ...]
    complete: bool = False
    tally_grace_s: float = 30.0


class CheckCellInput(Contract):
    """One cell's part of a pass; `others` are the cells that must not have the same nullifiers."""

    survey_id: str
    cell: str
    others: tuple[str, ...] = ()
    complete: bool = False
    tally_grace_s: float = 30.0


class ComparedTally(Contract):
    """How one cell's tally stands against its ledger now; nothing was changed."""

    tallied: int = 0
    announced: int = 0
    waiting: int = 0
    differences: tuple[Difference, ...] = ()
    open_before: bool = False  # an earlier comparison found something that still counts as open


class CompareCellsInput(Contract):
    """A survey whose nullifiers are to be compared between these cells."""

    survey_id: str
    cells: tuple[str, ...]


class RepairTallyInput(Contract):
    """A survey's totals in one cell to put in place from the ledger."""

    survey_id: str
    cell: str


class KeepTallyInput(Contract):
    """What a comparison of the tally came to: what is different still, and what was and is repaired."""

    survey_id: str
    cell: str
    differences: tuple[Difference, ...] = ()
    repaired: tuple[Difference, ...] = ()


class OpenDifferencesInput(Contract):
    """Asks for the open differences of a survey in one cell."""

    survey_id: str
    cell: str


class OpenDifferences(Contract):
    """The differences of one cell that nobody has repaired or cleared yet."""

    differences: tuple[Difference, ...] = ()


class ReconciliationReport(Contract):
    """What a pass came to.

    `differences` are all that are open in the cells that could be asked, whichever pass found them: with one open, a
    survey cannot be certified. `unreached` names what was not compared, as `{cell}/{what}`: what an incremental pass
    could not read in time, and what a complete one met that no retry helps.
    """

    survey_id: str
    complete: bool
    checked: tuple[CellChecked, ...] = ()
    repaired: tuple[Difference, ...] = ()
    differences: tuple[Difference, ...] = ()
    unreached: tuple[str, ...] = ()
    began_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def agrees(self) -> bool:
        """Whether everything that must agree does, in every cell."""
        return not self.differences and not self.unreached
