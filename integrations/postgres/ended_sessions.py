"""Which sessions of one cell ended a moment ago, and what is old enough to be forgotten."""

from datetime import datetime, timedelta

import asyncpg

from domain.errors import ErrorCode
from domain.sessions import REVOKED_FOR_S
from integrations.postgres.failures import unavailable_as

KEPT = timedelta(days=30)  # ended and expired sessions, for whoever asks what happened
LOGOUT_TOKENS_KEPT = timedelta(days=1)  # they are valid for minutes
_AT_ONCE = 1000
# Looked back a little each time: an end is visible only once its transaction has committed.
_OVERLAP = timedelta(seconds=5)

_ENDED = """
SELECT clock_timestamp() AS now, ARRAY(SELECT session_id FROM identity.session WHERE ended_at > $1) AS ended
"""
_NOW = "SELECT clock_timestamp()"
_SWEEP = (
    """
DELETE FROM identity.session WHERE session_id IN (
    SELECT session_id FROM identity.session WHERE ended_at < now() - $1::interval OR expires_at < now() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED
)""",
    """
DELETE FROM identity.logout_token WHERE (provider, jti_hash) IN (
    SELECT provider, jti_hash FROM identity.logout_token WHERE received_at < now() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED
)""",
    """
DELETE FROM identity.sent_code WHERE subject IN (
    SELECT subject FROM identity.sent_code WHERE expires_at < now() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED
)""",
    """
DELETE FROM identity.login_transaction WHERE state_hash IN (
    SELECT state_hash FROM identity.login_transaction WHERE expires_at < now() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED
)""",
)
_SWEPT_AFTER = (KEPT, LOGOUT_TOKENS_KEPT, timedelta(hours=1), timedelta(hours=1))


class EndedSessions:
    """Reads ends as they come. Calls raise DomainError `directory_unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._since: datetime | None = None

    async def news(self) -> list[str]:
        """Return the sessions that ended since the last call that succeeded, some of them again.

        The first call returns every one of which an access token may still be valid.
        """
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            if self._since is None:
                self._since = await self._pool.fetchval(_NOW) - timedelta(seconds=REVOKED_FOR_S)
            row = await self._pool.fetchrow(_ENDED, self._since)
        assert row is not None
        self._since = row["now"] - _OVERLAP
        ended: list[str] = row["ended"]
        return ended

    async def sweep(self) -> None:
        """Delete some of what is too old to matter. Safe to repeat, and for several processes at once."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            for statement, after in zip(_SWEEP, _SWEPT_AFTER, strict=True):
                await self._pool.execute(statement, after, _AT_ONCE)
