"""The rows of `audit.entry_writer`: which role writes audit entries of which kind, and in whose name.

A trigger of `audit.entry` looks there and refuses everything else. The rows follow from the catalogue, and roles read
them only. Every run of migrations writes those that are missing, so a kind that is new needs no revision.
"""

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import Connection, text

from domain.audit_writers import WRITERS, EntryWriter
from integrations.postgres.roles import IDENTITY, SURVEYS, TALLY, VOTING

ROLES: Final[Mapping[EntryWriter, str]] = {
    EntryWriter.VOTING: VOTING,
    EntryWriter.IDENTITY: IDENTITY,
    EntryWriter.TALLY: TALLY,
    EntryWriter.SURVEYS: SURVEYS,
}
CELL_WRITERS: Final = (EntryWriter.VOTING, EntryWriter.IDENTITY, EntryWriter.TALLY)
CATALOGUE_WRITERS: Final = (EntryWriter.SURVEYS,)
_INSTALL: Final = text(
    "INSERT INTO audit.entry_writer (role, kind, actor) VALUES (:role, :kind, :actor)"
    " ON CONFLICT ON CONSTRAINT pk_entry_writer DO NOTHING"
)


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
    names = ("role", "kind", "actor")
    connection.execute(_INSTALL, [dict(zip(names, row, strict=True)) for row in sorted(writer_rows(writers))])
