"""A connection on which nothing comes back as committed that might exist on one disk only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

_WAITS_FOR_STANDBY = "SyncRepWaitForLSN"  # the server's function that a commit waits in
_WRITE_TO_LOG = "SELECT pg_logical_emit_message(true, 'comitia', '')"


class CommitUnknownError(ConnectionError):
    """A commit stands on the primary and perhaps nowhere else: its wait for the standby was cancelled.

    The server calls that a success, with a warning. Whoever asked has to treat it as an answer that never came: try
    again, and wait then.
    """


class DurableConnection(asyncpg.Connection):
    """The driver's connection, on which an answer means that the standby has it.

    It raises CommitUnknownError in place of an answer whose wait was cancelled: `pg_cancel_backend`, a statement's
    time-out and a client's own cancellation all end the wait in this way. And a transaction that changes nothing waits
    like every other: what it found may be somebody else's whose wait was cancelled, or be older than a crash, and once
    its commit is acknowledged so is all that it saw. Transactions declared READ ONLY, and single reads, do not wait.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wait_cancelled = False
        self._reads_only = False
        self.proved_at = 0.0  # monotonic: when a commit on it last reached everybody

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        # Told by the function that speaks, not by its text, which is in the server's language.
        if fields.get("R") == _WAITS_FOR_STANDBY:
            self._wait_cancelled = True
        super()._process_log_message(fields, last_query)  # type: ignore[misc]  # of the driver, not of its types

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - the driver's
        """As the driver's, which begins and commits transactions through it."""
        if query.startswith("BEGIN"):
            self._reads_only = "READ ONLY" in query
        elif query == "COMMIT;" and not self._reads_only:
            query = f"{_WRITE_TO_LOG}; COMMIT;"  # together, at the price of no further round trip
        try:
            return str(self._known(await super().execute(query, *args, timeout=timeout)))
        finally:
            self._wait_cancelled = False

    async def _execute(self, *args: Any, **options: Any) -> Any:
        try:
            return self._known(await super()._execute(*args, **options))  # type: ignore[misc]
        finally:
            self._wait_cancelled = False

    async def _executemany(self, *args: Any, **options: Any) -> Any:
        try:
            return self._known(await super()._executemany(*args, **options))  # type: ignore[misc]
        finally:
            self._wait_cancelled = False

    def get_reset_query(self) -> str:
        """Return what is sent when the connection goes back to its pool: nothing, or every statement would be two.

        No statement of ours leaves anything in a session, and an open transaction is ended all the same.
        """
        return ""

    def _known(self, answer: Any) -> Any:
        if self._wait_cancelled:
            raise CommitUnknownError("the wait for the standby was cancelled")
        return answer


@asynccontextmanager
async def acknowledged(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """A transaction for one statement that may find its work done: its commit waits for the standby all the same."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection


async def known_everywhere(pool: asyncpg.Pool, query: str, *args: Any) -> list[asyncpg.Record]:
    """Return what a query finds once the standby has it too: for reads that something irreversible follows."""
    async with acknowledged(pool) as connection:
        return list(await connection.fetch(query, *args))


async def prove(connection: asyncpg.Connection, *, within_s: float) -> None:
    """Commit something that means nothing. Raises TimeoutError where it does not reach the standby in time."""
    await connection.execute(_WRITE_TO_LOG, timeout=within_s)
