"""What one transaction of the ledger wrote, as reconciliation reads it. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from domain.ids import BatchId


class ParticipationRow(NamedTuple):
    """A participation as the ledger has it; a tuple, since a million of them travel between processes."""

    survey_id: str
    nullifier: bytes
    region: str
    evidence: bytes

    def __repr__(self) -> str:
        """Name nobody: it may reach a log."""
        return f"ParticipationRow(survey_id={self.survey_id!r}, region={self.region!r})"


class BallotRow(NamedTuple):
    """A sealed ballot as the ledger has it, with the batch that it names; `ballot_id` is 16 bytes."""

    survey_id: str
    ballot_id: bytes
    gateway_id: bytes
    number: int
    sealed: bytes

    @property
    def batch(self) -> BatchId:
        """The batch that it names, which may be none that there is."""
        return BatchId(self.gateway_id, self.number)

    def __repr__(self) -> str:
        """Leave out what is sealed."""
        return f"BallotRow(survey_id={self.survey_id!r}, batch={self.batch})"


@dataclass(frozen=True, slots=True)
class CountRow:
    """What a batch counts for one survey and region, and the transaction that wrote this."""

    survey_id: str
    region: str
    ballots: int
    options: Mapping[str, int] = field(repr=False)
    written_by: int = 0


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as the ledger has it, its counts, and the bodies of the audit entries of its transaction.

    `written_by` is the transaction that wrote the row; the one that it names itself is that of its rows.
    """

    batch: BatchId
    written_by: int
    outcomes: bytes
    participations_root: bytes
    ballots_root: bytes
    counts: tuple[CountRow, ...]
    entries: tuple[Mapping[str, Any], ...]


@dataclass(slots=True)
class LedgerTransaction:
    """What one transaction wrote of a survey, and of whatever else its batch recorded."""

    xid: int
    batches: list[BatchRow] = field(default_factory=list)
    participations: list[ParticipationRow] = field(default_factory=list)
    ballots: list[BallotRow] = field(default_factory=list)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with plain tuples for rows: their classes would take longer on the way than their roots to compute."""
        rows = list(map(tuple, self.participations)), list(map(tuple, self.ballots))
        return _arrived, (self.xid, self.batches, *rows)


def _arrived(
    xid: int, batches: list[BatchRow], participations: Iterable[Sequence[Any]], ballots: Iterable[Sequence[Any]]
) -> LedgerTransaction:
    return LedgerTransaction(
        xid, batches, list(map(ParticipationRow._make, participations)), list(map(BallotRow._make, ballots))
    )
