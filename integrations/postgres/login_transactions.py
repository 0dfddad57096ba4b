"""Logins that are under way, in `identity.login_transaction` of one cell."""

import secrets
from datetime import timedelta

import asyncpg

from domain.errors import ErrorCode
from domain.federation import Transaction, state_hash
from integrations.postgres.failures import unavailable_as

_BEGIN = """
INSERT INTO identity.login_transaction (state_hash, kind, subject, secret, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::interval)
"""
# Of two who ask at once one deletes the row, and the other finds none.
_TAKE = """
DELETE FROM identity.login_transaction WHERE state_hash = $1 AND kind = $2 AND expires_at > now()
RETURNING subject, secret, expires_at - now() AS "left"
"""


class PostgresLoginTransactions:
    """Implements `LoginTransactions`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def begin(self, kind: str, state: str, subject: str, lifetime: timedelta) -> bytes:
        """Keep a state's hash for a while; return its secret, 32 bytes."""
        secret = secrets.token_bytes(32)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            await self._pool.execute(_BEGIN, state_hash(state), kind, subject, secret, lifetime)
        return secret

    async def take(self, kind: str, state: str) -> Transaction | None:
        """Return a transaction that has not expired, once."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_TAKE, state_hash(state), kind)
        return None if row is None else Transaction(row["subject"], row["secret"], row["left"])
