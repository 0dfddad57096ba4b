"""Claims of documents in one cell: one row per keyed hash, and each question settled by one statement."""

import asyncpg

from domain.accounts import Claim, ClaimState, KeyedHash
from domain.errors import DomainError, ErrorCode
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

# Whoever comes second waits for the first, and then reads what it left: the row comes back in any case.
_CLAIM = """
INSERT INTO identity.document_claim AS claim (key_id, digest, person_id, home_cell, holder)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT pk_document_claim DO UPDATE SET holder =
    CASE WHEN claim.holder IS NULL AND claim.home_cell = excluded.home_cell THEN excluded.holder ELSE claim.holder END
RETURNING person_id, home_cell, holder
"""
_RELEASE = """
WITH removed AS (
    DELETE FROM identity.document_claim WHERE key_id = $1 AND digest = $2 AND holder = $3 AND NOT settled
)
UPDATE identity.document_claim SET holder = NULL WHERE key_id = $1 AND digest = $2 AND holder = $3 AND settled
"""
_RELEASE_ALL = """
WITH removed AS (DELETE FROM identity.document_claim WHERE holder = $1 AND NOT settled)
UPDATE identity.document_claim SET holder = NULL WHERE holder = $1 AND settled
"""
_SETTLE = """
UPDATE identity.document_claim SET settled = true WHERE key_id = $1 AND digest = $2 AND holder = $3 RETURNING true
"""


class PostgresDocumentClaims:
    """Implements `DocumentClaims`; made for the role `comitia_identity` in the database of the claiming cell."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def claim(self, document: KeyedHash, person_id: str, home_cell: str, voter_id: str) -> Claim:
        """Claim a document for a voter, or learn who has it."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                row = await connection.fetchrow(
                    _CLAIM, document.key_id, document.digest, person_id, home_cell, voter_id
                )
        assert row is not None
        if row["holder"] == voter_id:
            state = ClaimState.GRANTED
        else:
            state = ClaimState.ELSEWHERE if row["holder"] is None else ClaimState.HELD
        return Claim(state, row["person_id"], row["home_cell"])

    async def release(self, document: KeyedHash, voter_id: str) -> None:
        """Let go of a claim: of one that led to an account the name stays, another is removed."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_RELEASE, document.key_id, document.digest, voter_id)

    async def release_all(self, voter_id: str) -> None:
        """Let go of every claim that a voter holds here."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_RELEASE_ALL, voter_id)

    async def settle(self, document: KeyedHash, voter_id: str) -> None:
        """Note that the claim has led to an account."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                done = await connection.fetchval(_SETTLE, document.key_id, document.digest, voter_id)
        if done is None:
            raise DomainError(ErrorCode.CLAIM_CONTRADICTED, f"{voter_id} does not hold the claim of its document")
