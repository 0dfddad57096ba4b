"""The wrapped keys of live surveys: the catalogue's, and the cells' copies of them.

What is told of them is on the standby too: versions are destroyed for it, and a fail-over brings none back.
"""

from collections.abc import AsyncIterator

import asyncpg

from domain.audit import AuditEntry, AuditKind
from domain.contracts.surveys import SurveyKeys
from domain.errors import ErrorCode
from domain.key_ports import KeyEvent
from integrations.postgres.audit_entries import append
from integrations.postgres.cell_surveys import wait_for_recording
from integrations.postgres.durable import acknowledged, known_everywhere
from integrations.postgres.failures import unavailable_as

_BY_ITSELF = "process:rotate-keys"
_PAGE = 200

_LIVE = """
SELECT survey_id, wrapped_ballot_key, wrapped_eligibility_key FROM catalogue.survey
WHERE wrapped_ballot_key IS NOT NULL AND keys_destroyed_at IS NULL AND survey_id > $1 ORDER BY survey_id LIMIT $2
"""
_REPLACE = """
UPDATE catalogue.survey SET wrapped_ballot_key = $4, wrapped_eligibility_key = $5
WHERE survey_id = $1 AND wrapped_ballot_key = $2 AND wrapped_eligibility_key = $3 AND keys_destroyed_at IS NULL
RETURNING survey_id
"""
_NOTE = """
INSERT INTO catalogue.key_event (key_id, event) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT pk_key_event DO NOTHING RETURNING key_id
"""
_KINDS = {KeyEvent.MADE: AuditKind.KEY_MADE, KeyEvent.DESTROYED: AuditKind.KEY_DESTROYED}
_PUBLISHING = "SELECT count(*) FROM catalogue.survey WHERE stage = 'publishing' AND wrapped_ballot_key IS NOT NULL"

_DIFFERS = "SELECT EXISTS (SELECT FROM voting.survey WHERE survey_id = $1 AND wrapped_ballot_key <> $2)"
_REPLACE_BALLOT = """
UPDATE voting.survey SET wrapped_ballot_key = $2
WHERE survey_id = $1 AND wrapped_ballot_key <> $2 AND keys_destroyed_at IS NULL RETURNING survey_id
"""
_REPLACE_ELIGIBILITY = """
UPDATE identity.survey SET wrapped_eligibility_key = $2
WHERE survey_id = $1 AND wrapped_eligibility_key <> $2 AND keys_destroyed_at IS NULL RETURNING survey_id
"""
_WRAPPED = """
SELECT wrapped_ballot_key AS wrapped FROM voting.survey WHERE keys_destroyed_at IS NULL
UNION ALL SELECT wrapped_eligibility_key FROM identity.survey WHERE keys_destroyed_at IS NULL
"""


class PostgresCatalogueKeys:
    """Implements `CatalogueKeys`; made for the role `comitia_surveys`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def live(self) -> AsyncIterator[SurveyKeys]:
        """Return the wrapped keys of every survey that has some."""
        last = ""
        while True:
            with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
                rows = await known_everywhere(self._pool, _LIVE, last, _PAGE)
            if not rows:
                return
            for row in rows:
                yield SurveyKeys(**dict(row))
            last = rows[-1]["survey_id"]

    async def replace(self, before: SurveyKeys, after: SurveyKeys) -> bool:
        """Put another wrapping of the same keys in place; False where `before` is no longer what is there."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            done = await self._pool.fetchval(
                _REPLACE,
                before.survey_id,
                before.wrapped_ballot_key,
                before.wrapped_eligibility_key,
                after.wrapped_ballot_key,
                after.wrapped_eligibility_key,
            )
        return done is not None

    async def note(self, key_id: str, event: KeyEvent, actor: str = "") -> None:
        """Keep what happens to a key-encryption key, and write its audit entry. Safe to repeat."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                if await connection.fetchval(_NOTE, key_id, event.value) is not None:
                    await append(connection, AuditEntry(_KINDS[event], actor or _BY_ITSELF, key_id))

    async def publishing(self) -> int:
        """Return how many surveys are on their way into the cells, with their wrapped keys in their process."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            (row,) = await known_everywhere(self._pool, _PUBLISHING)
        return int(row[0])


class PostgresCellKeys:
    """Implements `CellKeys`; made for the role `comitia_surveys` in a cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def replace(self, keys: SurveyKeys) -> bool:
        """Give an installed survey the wrapping that the catalogue has; False where it had it."""
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(_DIFFERS, keys.survey_id, keys.wrapped_ballot_key):
                    await wait_for_recording(connection)
                ballot = await connection.fetchval(_REPLACE_BALLOT, keys.survey_id, keys.wrapped_ballot_key)
                eligibility = await connection.fetchval(
                    _REPLACE_ELIGIBILITY, keys.survey_id, keys.wrapped_eligibility_key
                )
        return ballot is not None or eligibility is not None

    async def wrapped(self) -> list[bytes]:
        """Return every wrapped key of the cell."""
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            rows = await known_everywhere(self._pool, _WRAPPED)
        return [row["wrapped"] for row in rows]
