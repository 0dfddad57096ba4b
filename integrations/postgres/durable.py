"""A connection on which nothing comes back as committed that might exist on one disk only."""

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
    """The driver's connection, which raises CommitUnknownError in place of an answer whose wait was cancelled.

    `pg_cancel_backend`, a statement's time-out and a client's own cancellation all end that wait in this way.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wait_cancelled = False
        self.proved_at = 0.0  # monotonic: when a commit on it last reached everybody

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        # Told by the function that speaks, not by its text, which is in the server's language.
        if fields.get("R") == _WAITS_FOR_STANDBY:
            self._wait_cancelled = True
        super()._process_log_message(fields, last_query)  # type: ignore[misc]  # of the driver, not of its types

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - the driver's
        """As the driver's, which commits transactions through it."""
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

    def _known(self, answer: Any) -> Any:
        if self._wait_cancelled:
            raise CommitUnknownError("the wait for the standby was cancelled")
        return answer


async def write_to_log(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy, *, within_s: float | None = None
) -> None:
    """Let this transaction's commit wait for the standby although it changes nothing.

    What it has read may have been committed by somebody whose wait was cancelled, or be older than a crash: once this
    commit is acknowledged, so is all that it saw.
    """
    await connection.execute(_WRITE_TO_LOG, timeout=within_s)
