"""The rows of `audit.entry_writer`: which role writes audit entries of which kind, and in whose name.

A trigger of `audit.entry` looks there and refuses everything else. The rows follow from the catalogue, and roles read
them only. Every run of migrations writes those that are missing, so a kind that is new needs no revision; those that
only a release before needs go once that has ended.
"""

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import Connection, text

from domain.audit_writers import WRITERS, EntryWriter
from integrations.postgres.roles import (
    CLOSING,
    CODEC,
    CONSOLE,
    IDENTITY,
    ROLLS,
    STAFFING,
    SURVEYS,
    TALLY,
    UNMASKING,
    VOTING,
)

ROLES: Final[Mapping[EntryWriter, str]] = {
    EntryWriter.VOTING: VOTING,
    EntryWriter.IDENTITY: IDENTITY,
    EntryWriter.TALLY: TALLY,
    EntryWriter.SURVEYS: SURVEYS,
    EntryWriter.CLOSING: CLOSING,
    EntryWriter.UNMASKING: UNMASKING,
    EntryWriter.CODEC: CODEC,
    EntryWriter.STAFFING: STAFFING,
    EntryWriter.ROLLS: ROLLS,
    EntryWriter.CONSOLE: CONSOLE,
}
CELL_WRITERS: Final = (
    EntryWriter.VOTING,
    EntryWriter.IDENTITY,
    EntryWriter.TALLY,
    EntryWriter.UNMASKING,
    EntryWriter.CODEC,
    EntryWriter.STAFFING,
    EntryWriter.ROLLS,
    EntryWriter.CONSOLE,
)
CATALOGUE_WRITERS: Final = (EntryWriter.SURVEYS, EntryWriter.CLOSING)
_INSTALL: Final = text(
    "INSERT INTO audit.entry_writer (role, kind, actor) VALUES (:role, :kind, :actor)"
    " ON CONFLICT ON CONSTRAINT pk_entry_writer DO NOTHING"
)
_PRESENT: Final = text("SELECT role, kind, actor FROM audit.entry_writer")
_WITHDRAW: Final = text("DELETE FROM audit.entry_writer WHERE role = :role AND kind = :kind AND actor = :actor")


def writer_rows(writers: Collection[EntryWriter]) -> frozenset[tuple[str, str, str]]:
    """Return role, kind and actor of everything that these may write."""
    return frozenset(
        (ROLES[writer], kind.value, actor)
        for writer in writers
        for kind, actors in WRITERS[writer].items()
        for actor in actors
    )


def install_writers(connection: Connection, writers: Collection[EntryWriter]) -> None:
    """Write the rows of these that are missing. Safe to repeat; takes nothing away: the release before may need it."""
    connection.execute(_INSTALL, [_named(row) for row in sorted(writer_rows(writers))])


def withdraw_writers(connection: Connection, writers: Collection[EntryWriter]) -> None:
    """Take away every row but those of these: what a release before wrote, nobody writes any more. Safe to repeat."""
    present = {(row.role, row.kind, row.actor) for row in connection.execute(_PRESENT)}
    for row in sorted(present - writer_rows(writers)):
        connection.execute(_WITHDRAW, _named(row))


def _named(row: tuple[str, str, str]) -> dict[str, str]:
    return dict(zip(("role", "kind", "actor"), row, strict=True))
