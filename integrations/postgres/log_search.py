"""The search of one audit log: rows that lead to places, made out of what is sealed and never the other way round."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from domain.errors import ErrorCode
from domain.log_search import IndexedEntry, Sought
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_SIZE: Final = "SELECT coalesce((SELECT indexed FROM audit.search_mark), 0)"
# Made again where somebody took it away: whoever holds it goes on alone
_MARK: Final = "INSERT INTO audit.search_mark DEFAULT VALUES ON CONFLICT ON CONSTRAINT pk_search_mark DO NOTHING"
_HOLD: Final = "SELECT indexed FROM audit.search_mark FOR UPDATE"
_MOVE: Final = "UPDATE audit.search_mark SET indexed = $1"
_ADD: Final = """
INSERT INTO audit.search (leaf_index, occurred_at, kind, actor, subject)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[])
ON CONFLICT ON CONSTRAINT pk_search DO NOTHING
"""
_ENTRIES: Final = "SELECT leaf_index, occurred_at, kind, actor, subject FROM audit.search"
_BETWEEN: Final = f"{_ENTRIES} WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index"
_TAKE: Final = "DELETE FROM audit.search WHERE leaf_index >= $1 AND leaf_index < $2"
_REACH: Final = f"SELECT greatest(({_SIZE}), (SELECT max(leaf_index) + 1 FROM audit.search))"  # noqa: S608
_CUT: Final = "DELETE FROM audit.search WHERE leaf_index >= $1"
# A condition for what was asked and none for what was not, so that each kind of question has a plan of its own
_CONDITIONS: Final = {
    "subject": "subject = ",
    "kind": "kind = ",
    "actor": "actor = ",
    "since": "occurred_at >= ",
    "until": "occurred_at < ",
}


class PostgresLogSearch:
    """Implements `EntrySearch`, for the role `comitia_search`, and `SearchIndex`, for `comitia_audit`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def size(self) -> int:
        """Return up to which place everything is found."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            return int(await self._pool.fetchval(_SIZE))

    async def find(self, sought: Sought, before: int, most: int) -> Sequence[IndexedEntry]:
        """Return the last `most` entries before a place, the newest first."""
        asked = {name: value for name in _CONDITIONS if (value := getattr(sought, name)) is not None}
        conditions = ["leaf_index < $1", *(f"{_CONDITIONS[name]}${at}" for at, name in enumerate(asked, start=3))]
        statement = f"{_ENTRIES} WHERE {' AND '.join(conditions)} ORDER BY leaf_index DESC LIMIT $2"
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            return _entries(await self._pool.fetch(statement, before, most, *asked.values()))

    async def extend(self, first: int, end: int, entries: Sequence[IndexedEntry]) -> int:
        """Take up what is to be found between two places, if it is complete up to the first; return its size."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                size = await self._held(connection)
                if size != first:
                    return size
                await connection.execute(_ADD, *_arrays(entries))
                await connection.execute(_MOVE, end)
        return end

    async def between(self, first: int, end: int) -> Sequence[IndexedEntry]:
        """Return what it has between two places, in their order."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            return _entries(await self._pool.fetch(_BETWEEN, first, end))

    async def replace(self, first: int, end: int, entries: Sequence[IndexedEntry]) -> None:
        """Have exactly this between two places."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await self._held(connection)
                await connection.execute(_TAKE, first, end)
                await connection.execute(_ADD, *_arrays(entries))

    async def reach(self) -> int:
        """Return the first place behind everything that it has or says that it has."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            return int(await self._pool.fetchval(_REACH))

    async def end(self, size: int) -> None:
        """Be complete up to this place and have nothing beyond, which whoever follows takes up again."""
        with unavailable_as(ErrorCode.AUDIT_LOG_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await self._held(connection)
                await connection.execute(_MOVE, size)
                await connection.execute(_CUT, size)

    async def _held(self, connection: Any) -> int:
        await connection.execute(_MARK)
        return int(await connection.fetchval(_HOLD))


def _arrays(entries: Sequence[IndexedEntry]) -> tuple[list[Any], ...]:
    return (
        [entry.index for entry in entries],
        [entry.occurred_at for entry in entries],
        [entry.kind for entry in entries],
        [entry.actor for entry in entries],
        [entry.subject for entry in entries],
    )


def _entries(rows: Sequence[Any]) -> list[IndexedEntry]:
    return [
        IndexedEntry(row["leaf_index"], row["occurred_at"], row["kind"], row["actor"], row["subject"]) for row in rows
    ]
