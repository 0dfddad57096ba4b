"""Notices of changes to accounts in one cell, from the transaction of the change until they are sent."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from domain.account_notices import NOTICES_KEPT, AccountNotice
from domain.errors import ErrorCode
from domain.mailing import MessageKind
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

NOTE_NOTICE = "INSERT INTO identity.account_notice (voter_id, notice) VALUES ($1, $2)"
# Whoever fails goes to the end of the row, so that nothing waits behind a notice that cannot be sent.
_TAKE = """
UPDATE identity.account_notice SET taken_until = now() + $2
WHERE notice_id IN (
    SELECT notice_id FROM identity.account_notice WHERE taken_until <= now()
    ORDER BY taken_until, notice_id LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING notice_id, voter_id, notice
"""
_TOLD = "DELETE FROM identity.account_notice WHERE notice_id = $1"
_KINDS = frozenset(MessageKind)
_FORGET_OLDER = "DELETE FROM identity.account_notice WHERE noted_at < now() - $1::interval"


class PostgresAccountNotices:
    """Implements `AccountNotices`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def take(self, limit: int, lease: timedelta) -> Sequence[AccountNotice]:
        """Take notices to send, oldest first; of kinds that this release does not know none."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_TAKE, limit, lease)
        known = [row for row in sorted(rows, key=lambda row: row["notice_id"]) if row["notice"] in _KINDS]
        return [AccountNotice(row["notice_id"], row["voter_id"], MessageKind(row["notice"])) for row in known]

    async def told(self, notice_id: int) -> None:
        """Forget a notice that is sent."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_TOLD, notice_id)

    async def forget_older(self) -> int:
        """Forget notices that are no news any more, and return how many."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_FORGET_OLDER, NOTICES_KEPT)).rpartition(" ")[2])
