"""Electoral rolls as they are delivered: a table with one person a line, named by a voter's id or by a document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from domain import canonical
from domain.errors import DomainError
from domain.ids import cell_of_voter
from domain.proofing import Document

VOTER_COLUMN = "voter_id"
DOCUMENT_COLUMNS = ("country", "kind", "number")


class RollOutcome(StrEnum):
    """What came of one line of a roll."""

    ENROLLED = "enrolled"
    ALREADY_ENROLLED = "already_enrolled"
    MALFORMED = "malformed"  # neither a voter's id nor a document
    UNKNOWN_CELL = "unknown_cell"  # the person is at home in a cell that these settings do not name
    UNKNOWN_VOTER = "unknown_voter"
    NOT_PROOFED = "not_proofed"  # nobody knows yet which person the voter is
    CONTRADICTED = "contradicted"  # a fault: two claims of the document name two persons


ON_ROLL = frozenset({RollOutcome.ENROLLED, RollOutcome.ALREADY_ENROLLED})


@dataclass(frozen=True, slots=True)
class RollEntry:
    """Whom a line names: one of the two."""

    voter_id: str = ""
    document: Document | None = field(default=None, repr=False)


def check_columns(columns: Sequence[str]) -> None:
    """Raise ValueError where a table with these columns cannot name anybody."""
    if VOTER_COLUMN not in columns and not set(DOCUMENT_COLUMNS) <= set(columns):
        raise ValueError(f"the first line must name {VOTER_COLUMN}, or {', '.join(DOCUMENT_COLUMNS)}")


def entry_of(row: Mapping[str, str | None]) -> RollEntry | None:
    """Return whom a row names, by its voter's id where it has one, or None where it is malformed.

    Documents come in their canonical form, so that two spellings of one are one.
    """
    voter_id = (row.get(VOTER_COLUMN) or "").strip()
    if voter_id:
        return RollEntry(voter_id=voter_id) if cell_of_voter(voter_id) is not None else None
    country, kind, number = (row.get(column) or "" for column in DOCUMENT_COLUMNS)
    if any("\ud800" <= character <= "\udfff" for character in number):
        return None  # bytes that are no text: what is left of the number would be another one
    try:
        return RollEntry(document=Document(*canonical.document(Document(country, kind, number))))
    except DomainError:
        return None
