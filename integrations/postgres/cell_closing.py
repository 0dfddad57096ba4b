"""The end of a survey in one cell: votes refused for good, totals certified, keys gone."""

import json
from typing import Any

import asyncpg

from domain.contracts.certification import InstallCertificateInput, SealedCell
from domain.errors import DomainError, ErrorCode
from integrations.postgres.cell_surveys import wait_for_recording
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

# Under the lock nobody records: whatever comes later sees the seal.
_SEAL = """
UPDATE voting.survey SET sealed_at = coalesce(sealed_at, clock_timestamp())
WHERE survey_id = $1 AND finish_at <= clock_timestamp() RETURNING finish_at, sealed_at
"""
_SEALED = "SELECT finish_at, sealed_at FROM voting.survey WHERE survey_id = $1"

_CERTIFICATE = """
INSERT INTO tally.certificate (survey_id, certificate_id, certified_at, regions) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT ON CONSTRAINT pk_certificate DO NOTHING
"""
_CERTIFICATE_ID = "SELECT certificate_id FROM tally.certificate WHERE survey_id = $1"

# An empty wrapped key opens nothing; the instant says that it was meant.
_DESTROY_BALLOT_KEY = """
UPDATE voting.survey SET wrapped_ballot_key = '', keys_destroyed_at = now()
WHERE survey_id = $1 AND keys_destroyed_at IS NULL
"""
_DESTROY_ELIGIBILITY_KEY = """
UPDATE identity.survey SET wrapped_eligibility_key = '', keys_destroyed_at = now()
WHERE survey_id = $1 AND keys_destroyed_at IS NULL
"""


class PostgresCellClosing:
    """Implements `CellClosing`; made for the role `comitia_closing` in a cell's database."""

    def __init__(self, pool: asyncpg.Pool, cell: str) -> None:
        self._pool = pool
        self._cell = cell

    async def seal(self, survey_id: str) -> SealedCell:
        """Take no vote of a closed survey any more, whenever it was accepted; the first instant stays.

        Raises:
            DomainError: `survey_not_found`, `precondition_failed` where it is not closed, or `ledger_unavailable`.
        """
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                row: Any = await connection.fetchrow(_SEALED, survey_id)
                if row is None:
                    raise DomainError(ErrorCode.SURVEY_NOT_FOUND, f"not installed in {self._cell}")
                if row["sealed_at"] is None:
                    await wait_for_recording(connection)
                    row = await connection.fetchrow(_SEAL, survey_id)
        if row is None:
            raise DomainError(ErrorCode.PRECONDITION_FAILED, f"not closed in {self._cell}")
        return SealedCell(cell=self._cell, closed_at=row["finish_at"], sealed_at=row["sealed_at"])

    async def install_certificate(self, request: InstallCertificateInput) -> None:
        """Put certified totals into the cell; safe to repeat.

        Raises:
            DomainError: `internal` where another certificate is there (a fault), `ledger_unavailable`.
        """
        regions = json.dumps([region.model_dump(mode="json") for region in request.regions])
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(
                    _CERTIFICATE, request.survey_id, request.certificate_id, request.certified_at, regions
                )
                installed = await connection.fetchval(_CERTIFICATE_ID, request.survey_id)
        if installed != request.certificate_id:
            raise DomainError(ErrorCode.INTERNAL, f"{self._cell} has another certificate of this survey")

    async def destroy_keys(self, survey_id: str) -> None:
        """Take the wrapped keys of a survey out of the cell for good; safe to repeat. Raises `ledger_unavailable`."""
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                await wait_for_recording(connection)
                await connection.execute(_DESTROY_BALLOT_KEY, survey_id)
                await connection.execute(_DESTROY_ELIGIBILITY_KEY, survey_id)
