"""Sealing of audit logs: names, sizes and roots; no entry is in any history."""

from domain.contracts.base import Contract


class SealAuditLogInput(Contract):
    """Seals one log: a cell's, or the catalogue's. `compare_tiles` of what was sealed before are read again."""

    log: str
    compare_tiles: int = 16


class SequencedAuditLog(Contract):
    """How many entries of a log have a place."""

    log: str
    size: int


class AuditTreeHead(Contract):
    """The root (32 bytes) over the first `size` entries of a log; `is_signed` where such a tree head is kept."""

    log: str
    size: int
    root: bytes
    is_signed: bool = False


class CompareAuditLogInput(Contract):
    """Compares entries in the database with sealed ones: `tiles` of 256 of them from tile `first` of a sealed log."""

    log: str
    size: int
    first: int
    tiles: int


class ComparedAuditLog(Contract):
    """How many entries were compared, and found to be what was sealed."""

    log: str
    entries: int


class SealedAuditLog(Contract):
    """A log as far as it is sealed, and how many entries of before were compared again."""

    log: str
    size: int
    root: bytes
    compared: int = 0
