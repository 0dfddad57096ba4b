"""The rules of reconciliation: what one transaction of the ledger must be. No I/O.

The transaction is the unit: recording writes a batch, its participations, its ballots, its counts and its audit entry
in one, so whatever was written by another one stands out, and who belongs to a batch needs no column that says so.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from domain import merkle
from domain.contracts.reconciliation import Difference, DifferenceKind
from domain.contracts.voting import Outcome
from domain.framing import framed
from domain.ids import BatchId
from domain.ledger_rows import BallotRow, BatchRow, LedgerTransaction
from domain.ledger_sums import LedgerSums
from domain.recording import ballot_leaf

EvidenceCheck = Callable[[str, bytes, str, bytes], bool]
"""`(survey_id, nullifier, region, evidence)`: whether the issuer admitted this nullifier to the survey in this cell."""


@dataclass(slots=True)
class Findings:
    """What a check of some transactions came to. `strays` are ballots that their transaction's batch has not got."""

    sums: LedgerSums = field(default_factory=LedgerSums)
    differences: list[Difference] = field(default_factory=list)
    strays: list[BallotRow] = field(default_factory=list)
    transactions: int = 0
    evidence_checked: int = 0

    def add(self, other: "Findings") -> None:
        """Add what others came to."""
        self.sums.add(other.sums)
        self.differences += other.differences
        self.strays += other.strays
        self.transactions += other.transactions
        self.evidence_checked += other.evidence_checked


def participation_name(nullifier: bytes) -> str:
    """Return how a participation is named to staff: the SHA-256 of its nullifier, in hexadecimal."""
    return sha256(nullifier).hexdigest()


def check_transactions(
    cell: str, survey_id: str, transactions: Sequence[LedgerTransaction], is_admitted: EvidenceCheck
) -> Findings:
    """Return what is wrong with these transactions as far as a survey is concerned, and what they add up to."""
    findings = Findings(transactions=len(transactions))
    for transaction in transactions:
        _Check(cell, survey_id, transaction, findings).run(is_admitted)
    return findings


class _Check:
    """One transaction against the rules."""

    def __init__(self, cell: str, survey_id: str, transaction: LedgerTransaction, findings: Findings) -> None:
        self._cell = cell
        self._survey_id = survey_id
        self._transaction = transaction
        self._findings = findings

    def run(self, is_admitted: EvidenceCheck) -> None:
        transaction = self._transaction
        self._participations(is_admitted)
        batches = {(row.batch.gateway_id, row.batch.number) for row in transaction.batches}
        for ballot in transaction.ballots:
            if ballot.survey_id == self._survey_id:
                self._findings.sums.ballots += 1
                if (ballot.gateway_id, ballot.number) not in batches:
                    self._findings.strays.append(ballot)
        for row in transaction.batches:
            self._batch(row)

    def _participations(self, is_admitted: EvidenceCheck) -> None:
        sums, without_batch = self._findings.sums, not self._transaction.batches
        for row in self._transaction.participations:
            if row.survey_id != self._survey_id:
                continue
            sums.of(row.region).participations += 1
            self._findings.evidence_checked += 1
            if not is_admitted(row.survey_id, row.nullifier, row.region, row.evidence):
                self._say(
                    DifferenceKind.EVIDENCE_INVALID,
                    "no key of the issuer vouches for this participation",
                    participation=participation_name(row.nullifier),
                    region=row.region,
                )
            if without_batch:
                self._say(
                    DifferenceKind.PARTICIPATION_WITHOUT_BATCH,
                    "no batch was recorded in the transaction that wrote this participation",
                    participation=participation_name(row.nullifier),
                    region=row.region,
                )

    def _batch(self, row: BatchRow) -> None:
        own_counts = [count for count in row.counts if count.survey_id == self._survey_id]
        self._findings.sums.count(row.batch, own_counts)
        gateway_id, number = row.batch.gateway_id, row.batch.number
        ballots = [
            ballot
            for ballot in self._transaction.ballots
            if ballot.number == number and ballot.gateway_id == gateway_id
        ]
        self._rows_and_counts(row, ballots)
        for count in own_counts:
            if count.written_by != self._transaction.xid:
                self._say(
                    DifferenceKind.COUNT_OF_ANOTHER_TRANSACTION,
                    "a count of this batch was written by another transaction",
                    batch=str(row.batch),
                    region=count.region,
                )
        if row.written_by != self._transaction.xid:
            self._say(
                DifferenceKind.BATCH_TRANSACTION_DIFFERS,
                "the batch names another transaction than the one that wrote its row",
                batch=str(row.batch),
            )
        self._roots(row, ballots)
        self._entries(row)

    def _rows_and_counts(self, row: BatchRow, ballots: Sequence[BallotRow]) -> None:
        recorded = row.outcomes.count(Outcome.RECORDED)
        participations = self._transaction.participations
        for kind, detail, found in (
            (
                DifferenceKind.BATCH_PARTICIPATIONS_DIFFER,
                "new votes by the batch's outcomes, and participations that its transaction wrote",
                len(participations),
            ),
            (
                DifferenceKind.BATCH_BALLOTS_DIFFER,
                "new votes by the batch's outcomes, and ballots that its transaction wrote",
                len(ballots),
            ),
            (
                DifferenceKind.BATCH_COUNTS_DIFFER,
                "new votes by the batch's outcomes, and ballots that it counts",
                sum(count.ballots for count in row.counts),
            ),
        ):
            if found != recorded:
                self._say(kind, detail, batch=str(row.batch), expected=recorded, found=found)
        self._regions(row, sum(ballot.survey_id == self._survey_id for ballot in ballots))

    def _regions(self, row: BatchRow, ballots: int) -> None:
        own = self._survey_id
        written = Counter(found.region for found in self._transaction.participations if found.survey_id == own)
        counted = Counter({found.region: found.ballots for found in row.counts if found.survey_id == own})
        for region in sorted(written.keys() | counted.keys()):
            if written[region] != counted[region]:
                self._say(
                    DifferenceKind.BATCH_COUNTS_DIFFER,
                    "participations of the region that the batch's transaction wrote, and ballots that it counts",
                    batch=str(row.batch),
                    region=region,
                    expected=written[region],
                    found=counted[region],
                )
        if ballots != counted.total():
            self._say(
                DifferenceKind.BATCH_COUNTS_DIFFER,
                "the survey's ballots that the batch's transaction wrote, and those that it counts",
                batch=str(row.batch),
                expected=ballots,
                found=counted.total(),
            )

    def _roots(self, row: BatchRow, ballots: Sequence[BallotRow]) -> None:
        rows = sorted(self._transaction.participations, key=lambda found: (found.survey_id, found.nullifier))
        participations = merkle.root(
            framed(found.survey_id.encode(), found.nullifier, found.evidence, found.region.encode()) for found in rows
        )
        if participations != row.participations_root:
            self._say(
                DifferenceKind.PARTICIPATIONS_ROOT_DIFFERS,
                "the batch commits to other participations than its transaction wrote",
                batch=str(row.batch),
            )
        own = sorted(ballots, key=lambda ballot: ballot.ballot_id)
        if (
            merkle.root(ballot_leaf(found.survey_id, found.ballot_id, found.sealed) for found in own)
            != row.ballots_root
        ):
            self._say(
                DifferenceKind.BALLOTS_ROOT_DIFFERS,
                "the batch commits to other ballots than its transaction wrote",
                batch=str(row.batch),
            )

    def _entries(self, row: BatchRow) -> None:
        if not row.entries:
            self._say(
                DifferenceKind.AUDIT_ENTRY_MISSING,
                "the batch's transaction wrote no audit entry",
                batch=str(row.batch),
            )
            return
        due = {
            "batch": str(row.batch),
            "participations": row.outcomes.count(Outcome.RECORDED),
            "participationsRoot": row.participations_root.hex(),
            "ballotsRoot": row.ballots_root.hex(),
        }
        if len(row.entries) > 1 or any(row.entries[0].get(name) != value for name, value in due.items()):
            self._say(
                DifferenceKind.AUDIT_ENTRY_DIFFERS,
                "the audit entry of the batch's transaction says something else than the batch",
                batch=str(row.batch),
            )

    def _say(self, kind: DifferenceKind, detail: str, **rows: Any) -> None:
        self._findings.differences.append(Difference(kind=kind, cell=self._cell, detail=detail, **rows))


def stray_ballots(cell: str, strays: Iterable[BallotRow], existing: frozenset[BatchId]) -> list[Difference]:
    """Return what ballots are that their transaction's batch has not got; `existing` are batches that are there."""
    return [
        Difference(
            kind=DifferenceKind.BALLOT_OF_ANOTHER_TRANSACTION,
            cell=cell,
            detail="the batch that this ballot names was recorded by another transaction",
            ballot=str(UUID(bytes=found.ballot_id)),
            batch=str(found.batch),
        )
        if found.batch in existing
        else Difference(
            kind=DifferenceKind.BALLOT_WITHOUT_BATCH,
            cell=cell,
            detail="there is no such batch",
            ballot=str(UUID(bytes=found.ballot_id)),
            batch=str(found.batch),
        )
        for found in strays
    ]
