"""Personal data of one cell: one ciphertext per voter, under a data key that only this voter has.

The data key is wrapped under `kek/personal` with the voter's id as context. Destroying it empties the row; a backup
keeps the wrapped form until the version of `kek/personal` that wraps it there is destroyed, within a month.
"""

import asyncio

import asyncpg
import structlog

from domain.accounts import PersonalData
from domain.errors import DomainError, ErrorCode
from domain.ports import DataKey, KeyManagement
from integrations.keys.personal import open_fields, seal_fields
from integrations.keys.purposes import KEK_PERSONAL
from integrations.keys.wrapping import key_id_of
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

# From making a data key to its row: a rotation that destroys at once waits longer for rows under the old version.
KEY_MADE_WITHIN_S = 10.0

_KEY = "SELECT wrapped FROM identity.personal_key WHERE voter_id = $1"
_LOCK_KEY = "SELECT destroyed_at IS NOT NULL AS destroyed FROM identity.personal_key WHERE voter_id = $1 FOR UPDATE"
_ADD_KEY = """
INSERT INTO identity.personal_key (voter_id, kek_id, wrapped) VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT pk_personal_key DO NOTHING
"""
# Nothing was ever kept under it: its maker was held up until the version that wraps it was gone.
_REPLACE_KEY = """
UPDATE identity.personal_key SET kek_id = $3, wrapped = $4
WHERE voter_id = $1 AND wrapped = $2 AND NOT EXISTS (SELECT FROM identity.personal WHERE personal.voter_id = $1)
RETURNING true
"""
_CIPHERTEXT = "SELECT ciphertext FROM identity.personal WHERE voter_id = $1"
_PUT = """
INSERT INTO identity.personal (voter_id, ciphertext) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT pk_personal DO UPDATE SET ciphertext = excluded.ciphertext, updated_at = now()
"""
_GET = """
SELECT wrapped, ciphertext FROM identity.personal_key JOIN identity.personal USING (voter_id)
WHERE voter_id = $1 AND wrapped IS NOT NULL
"""
_DESTROY = """
INSERT INTO identity.personal_key AS found (voter_id, destroyed_at) VALUES ($1, now())
ON CONFLICT ON CONSTRAINT pk_personal_key DO UPDATE SET kek_id = NULL, wrapped = NULL, destroyed_at = now()
WHERE found.destroyed_at IS NULL
RETURNING true
"""
_DELETE = "DELETE FROM identity.personal WHERE voter_id = $1"
_CHANGED = "INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, 'personal_destroyed', '', $2)"
_ACTOR = "identity"

_log = structlog.get_logger()


class PostgresPersonalRecords:
    """Implements `PersonalRecords`; needs the purpose `kek/personal` and the role `comitia_identity`."""

    def __init__(self, pool: asyncpg.Pool, keys: KeyManagement) -> None:
        self._pool = pool
        self._keys = keys

    async def put(self, voter_id: str, data: PersonalData) -> None:
        """Add or replace fields."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            key = await self._data_key(voter_id)
            async with acknowledged(self._pool) as connection:
                row = await connection.fetchrow(_LOCK_KEY, voter_id)
                if row is None or row["destroyed"]:
                    raise DomainError(ErrorCode.KEY_DESTROYED, "of this voter's data")
                sealed = await connection.fetchval(_CIPHERTEXT, voter_id)
                before = open_fields(sealed, key, voter_id) if sealed is not None else {}
                await connection.execute(_PUT, voter_id, seal_fields({**before, **data.fields}, key, voter_id))

    async def _data_key(self, voter_id: str, read: bytes | None = None) -> bytes:
        """Return the voter's data key, made where there is none; nothing is kept under it before it was read back.

        `read` is what was read of it just now.
        """
        wrapped = read or await self._pool.fetchval(_KEY, voter_id)
        if wrapped is None:
            async with asyncio.timeout(KEY_MADE_WITHIN_S):
                made = await self._made(voter_id)
                await self._pool.execute(_ADD_KEY, voter_id, key_id_of(made.wrapped), made.wrapped)
            wrapped = await self._pool.fetchval(_KEY, voter_id)
        if wrapped is None:
            raise DomainError(ErrorCode.KEY_DESTROYED, "of this voter's data")
        try:
            return await self._keys.unwrap(wrapped, voter_id)
        except DomainError as error:
            if error.code is not ErrorCode.KEY_DESTROYED:
                raise
            return await self._replaced(voter_id, wrapped, error)

    async def _replaced(self, voter_id: str, wrapped: bytes, refused: DomainError) -> bytes:
        async with asyncio.timeout(KEY_MADE_WITHIN_S):
            made = await self._made(voter_id)
            row = (voter_id, wrapped, key_id_of(made.wrapped), made.wrapped)
            if await self._pool.fetchval(_REPLACE_KEY, *row) is None:
                raise refused
        return made.plaintext

    async def _made(self, voter_id: str) -> DataKey:
        return await self._keys.generate_data_key(KEK_PERSONAL, voter_id)

    async def get(self, voter_id: str) -> PersonalData | None:
        """Return every field, or None where there is none or its key is destroyed."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_GET, voter_id)
        if row is None:
            return None
        try:
            key = await self._keys.unwrap(row["wrapped"], voter_id)
        except DomainError as error:
            if error.code is not ErrorCode.KEY_DESTROYED:
                raise
            _log.warning("personal_data_without_key", key_id=key_id_of(row["wrapped"]))
            return None
        return PersonalData(open_fields(row["ciphertext"], key, voter_id))

    async def seal(self, voter_id: str, data: PersonalData, data_key: bytes | None = None) -> bytes:
        """Return fields sealed under the voter's key, for keeping elsewhere."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return seal_fields(data.fields, await self._data_key(voter_id, data_key), voter_id)

    async def unseal(self, voter_id: str, sealed: bytes, data_key: bytes | None = None) -> PersonalData | None:
        """Return what was sealed for this voter, or None where the key is destroyed."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            wrapped = data_key or await self._pool.fetchval(_KEY, voter_id)
        if wrapped is None:
            return None
        try:
            key = await self._keys.unwrap(wrapped, voter_id)
        except DomainError as error:
            if error.code is not ErrorCode.KEY_DESTROYED:
                raise
            return None
        return PersonalData(open_fields(sealed, key, voter_id))

    async def destroy(self, voter_id: str) -> None:
        """Destroy the voter's key, and with it every copy of the data; a voter without a key never gets one."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                if await connection.fetchval(_DESTROY, voter_id):
                    await connection.execute(_DELETE, voter_id)
                    await connection.execute(_CHANGED, voter_id, _ACTOR)
