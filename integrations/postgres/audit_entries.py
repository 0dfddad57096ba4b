"""Writes audit entries, each in the transaction of what it describes."""

from typing import Any

from domain.audit import AuditEntry
from domain.certificates import canonical_json

_APPEND = "INSERT INTO audit.entry (kind, body) VALUES ($1, $2::jsonb)"

Connection = Any  # a pooled connection; the driver's stubs name its proxy only


async def append(connection: Connection, entry: AuditEntry) -> None:
    """Write an entry, in the transaction that is open on this connection."""
    assert connection.is_in_transaction(), "an entry commits with what it describes, or neither does"
    await connection.execute(_APPEND, *row_of(entry))


def row_of(entry: AuditEntry) -> tuple[str, str]:
    """Return kind and body, for a statement that writes an entry together with what it describes."""
    return entry.kind.value, canonical_json(entry.body).decode()
