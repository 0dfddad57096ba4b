"""What of the histories of a cell, or of the platform, is archived, and where: written once, by `comitia_audit`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final

import asyncpg

from domain.archive_ports import ArchiveCounts, HistoryPlace
from domain.contracts.archive import ClosedExecution, LeftOut
from domain.contracts.exports import StoredObject
from domain.errors import ErrorCode
from domain.history_packs import PackedHistory
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_COUNTS: Final = """
SELECT (SELECT coalesce(sum(histories), 0) FROM audit.archive_object) AS archived,
    (SELECT count(*) FROM audit.archived_history WHERE object IS NULL) AS left_out,
    (SELECT max(complete_until) FROM audit.archive_mark) AS complete_until
"""
_MISSING: Final = """
SELECT place FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS closed (workflow_id, run_id, place)
WHERE NOT EXISTS (
    SELECT FROM audit.archived_history AS noted
    WHERE noted.workflow_id = closed.workflow_id AND noted.run_id = closed.run_id
)
ORDER BY place
"""
_NOTE_OBJECT: Final = """
INSERT INTO audit.archive_object (object, sha256, size_bytes, histories) VALUES ($1, $2, $3, $4)
ON CONFLICT ON CONSTRAINT pk_archive_object DO NOTHING
"""
_NOTE: Final = """
INSERT INTO audit.archived_history
    (workflow_id, run_id, workflow_type, started_at, closed_at, object, first_byte, size_bytes, digest, left_out)
SELECT workflow_id, run_id, workflow_type, started_at, closed_at, $1::text, first_byte, size_bytes, digest, left_out
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bigint[], $8::bigint[], $9::bytea[],
    $10::text[]
) AS noted (workflow_id, run_id, workflow_type, started_at, closed_at, first_byte, size_bytes, digest, left_out)
ON CONFLICT ON CONSTRAINT pk_archived_history DO NOTHING
"""
_MARK: Final = """
INSERT INTO audit.archive_mark (complete_until) VALUES ($1) ON CONFLICT ON CONSTRAINT pk_archive_mark DO NOTHING
"""
_COLUMNS: Final = "workflow_id, run_id, workflow_type, started_at, object, first_byte, size_bytes, digest, left_out"
_PLACE: Final = f"""
SELECT {_COLUMNS} FROM audit.archived_history
WHERE workflow_id = $1 AND ($2 = '' OR run_id = $2) ORDER BY started_at DESC LIMIT 1
"""  # noqa: S608 - constants, here and below
_RUNS: Final = f"""
SELECT {_COLUMNS}, started_at FROM audit.archived_history WHERE workflow_id = $1 ORDER BY started_at, run_id
"""  # noqa: S608
_IN_PERIOD: Final = "started_at >= $1 AND started_at < $2 AND ($3 = '' OR workflow_type = $3)"
_FILES: Final = f"SELECT DISTINCT object FROM audit.archived_history WHERE {_IN_PERIOD} ORDER BY object"  # noqa: S608
_OF_FILE: Final = f"""
SELECT {_COLUMNS} FROM audit.archived_history
WHERE {_IN_PERIOD} AND object IS NOT DISTINCT FROM $4::text ORDER BY first_byte, workflow_id, run_id
"""  # noqa: S608
_OBJECTS: Final = """
SELECT object, sha256, size_bytes FROM audit.archive_object WHERE object > $1 ORDER BY object LIMIT 500
"""
_EXECUTION: Final = ("workflow_id", "run_id", "workflow_type", "started_at", "closed_at")
_LEFT_OUT: Final = f"""
SELECT {", ".join(_EXECUTION)}, left_out FROM audit.archived_history
WHERE object IS NULL AND (workflow_id, run_id) > ($1, $2) ORDER BY workflow_id, run_id LIMIT 500
"""  # noqa: S608


class PostgresArchive:
    """Implements `ArchiveNotes` and `ArchiveIndex`, in a cell's database or the catalogue's."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def counts(self) -> ArchiveCounts:
        """Return how the archive stands."""
        with _unavailable():
            row = await self._pool.fetchrow(_COUNTS)
        assert row is not None
        return ArchiveCounts(int(row["archived"]), row["left_out"], row["complete_until"])

    async def missing(self, executions: Sequence[ClosedExecution]) -> list[ClosedExecution]:
        """Return those of which nothing is noted, in their order."""
        ids, runs = [each.workflow_id for each in executions], [each.run_id for each in executions]
        with _unavailable():
            rows = await self._pool.fetch(_MISSING, ids, runs)
        return [executions[row["place"] - 1] for row in rows]

    async def note(
        self, stored: StoredObject | None, histories: Sequence[PackedHistory], left_out: Sequence[LeftOut]
    ) -> None:
        """Note in one transaction what a file has, and what is left out. Safe to repeat: the first note stays."""
        with _unavailable():
            async with acknowledged(self._pool) as connection:
                if stored is not None:
                    file = (stored.name, stored.sha256, stored.size_bytes, len(histories))
                    await connection.execute(_NOTE_OBJECT, *file)
                    await connection.execute(_NOTE, stored.name, *_columns([_archived(each) for each in histories]))
                if left_out:
                    await connection.execute(_NOTE, None, *_columns([_nowhere(each) for each in left_out]))

    async def mark(self, complete_until: datetime) -> None:
        """Note until when the archive is complete; it never goes back. Safe to repeat."""
        with _unavailable():
            async with acknowledged(self._pool) as connection:
                await connection.execute(_MARK, complete_until)

    async def place(self, workflow_id: str, run_id: str = "") -> HistoryPlace | None:
        """Return where a run's history is, that of the newest one without `run_id`; None where nothing is noted."""
        with _unavailable():
            row = await self._pool.fetchrow(_PLACE, workflow_id, run_id)
        return None if row is None else _place(row)

    async def runs(self, workflow_id: str) -> list[tuple[HistoryPlace, datetime]]:
        """Return where the archived runs of a workflow are, and when each started, oldest first."""
        with _unavailable():
            rows = await self._pool.fetch(_RUNS, workflow_id)
        return [(_place(row), row["started_at"]) for row in rows]

    async def started(self, since: datetime, until: datetime, workflow_type: str = "") -> AsyncIterator[HistoryPlace]:
        """Return those that started at or after the one instant and before the other, file by file."""
        with _unavailable():
            files = await self._pool.fetch(_FILES, since, until, workflow_type)
        for file in files:
            with _unavailable():
                rows = await self._pool.fetch(_OF_FILE, since, until, workflow_type, file["object"])
            for row in rows:
                yield _place(row)

    async def left_out(self) -> AsyncIterator[LeftOut]:
        """Return every execution that is not archived and will not be; its size is not known any more."""
        last = ("", "")
        while True:
            with _unavailable():
                rows = await self._pool.fetch(_LEFT_OUT, *last)
            for row in rows:
                execution = ClosedExecution(**{name: row[name] for name in _EXECUTION}, size_bytes=0)
                yield LeftOut(execution=execution, why=row["left_out"])
            if not rows:
                return
            last = rows[-1]["workflow_id"], rows[-1]["run_id"]

    async def objects(self) -> AsyncIterator[StoredObject]:
        """Return every file of the archive, with the digest that it had when it was noted."""
        last = ""
        while True:
            with _unavailable():
                rows = await self._pool.fetch(_OBJECTS, last)
            for row in rows:
                yield StoredObject(name=row["object"], size_bytes=row["size_bytes"], sha256=row["sha256"])
            if not rows:
                return
            last = rows[-1]["object"]


def _archived(history: PackedHistory) -> tuple[Any, ...]:
    return (
        history.workflow_id,
        history.run_id,
        history.workflow_type,
        history.started_at,
        history.closed_at,
        history.first_byte,
        len(history.events),
        history.digest,
        "",
    )


def _nowhere(each: LeftOut) -> tuple[Any, ...]:
    of = each.execution
    return (of.workflow_id, of.run_id, of.workflow_type, of.started_at, of.closed_at, None, None, None, each.why)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _place(row: Any) -> HistoryPlace:
    return HistoryPlace(
        workflow_id=row["workflow_id"],
        run_id=row["run_id"],
        workflow_type=row["workflow_type"],
        name=row["object"] or "",
        first_byte=row["first_byte"] or 0,
        size_bytes=row["size_bytes"] or 0,
        digest=row["digest"] or b"",
        left_out=row["left_out"],
        started_at=row["started_at"],
    )


def _unavailable() -> AbstractContextManager[None]:
    return unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE)
