"""The wrapped personal keys of one cell's voters, for whoever rotates what wraps them and sees none."""

from collections.abc import Sequence

import asyncpg

from domain.errors import ErrorCode
from domain.key_ports import PersonalKey
from integrations.postgres.durable import acknowledged, known_everywhere
from integrations.postgres.failures import unavailable_as

_UNDER = """
SELECT voter_id, wrapped FROM identity.personal_key WHERE kek_id = $1 AND voter_id > $2 ORDER BY voter_id LIMIT $3
"""
# In order, so that it never waits for another one that waits for it.
_REPLACE = """
WITH locked AS (
    SELECT voter_id, after FROM identity.personal_key
    JOIN unnest($2::text[], $3::bytea[], $4::bytea[]) AS new (voter_id, before, after) USING (voter_id)
    WHERE wrapped = before ORDER BY voter_id FOR UPDATE OF personal_key
), replaced AS (
    UPDATE identity.personal_key SET kek_id = $1, wrapped = after FROM locked
    WHERE personal_key.voter_id = locked.voter_id RETURNING personal_key.voter_id
)
SELECT count(*) FROM replaced
"""
_NOTE = """
INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, 'personal_keys_rewrapped', $2, 'rotate_keys')
"""
_USES = "SELECT EXISTS (SELECT FROM identity.personal_key WHERE kek_id = $1)"


class PostgresPersonalKeys:
    """Implements `PersonalKeys`; made for the role `comitia_surveys` in a cell's database.

    What it tells is on the standby too: a version is destroyed for it, and cannot be had back where a fail-over takes
    the re-wrapping back.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def under(self, key_id: str, after: str, limit: int) -> list[PersonalKey]:
        """Return keys wrapped under a version, of voters behind `after` in the order of their ids."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await known_everywhere(self._pool, _UNDER, key_id, after, limit)
        return [PersonalKey(row["voter_id"], row["wrapped"]) for row in rows]

    async def replace(self, key_id: str, keys: Sequence[tuple[PersonalKey, bytes]]) -> int:
        """Put other wrappings, all under `key_id`, in the place of those given, and note it; return how many."""
        voters, before = [key.voter_id for key, _ in keys], [key.wrapped for key, _ in keys]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                done = int(await connection.fetchval(_REPLACE, key_id, voters, before, [new for _, new in keys]))
                if done:
                    await connection.execute(_NOTE, key_id, f"voters={done}")
        return done

    async def uses(self, key_id: str) -> bool:
        """Tell whether any key is wrapped under a version."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            (row,) = await known_everywhere(self._pool, _USES, key_id)
        return bool(row[0])
