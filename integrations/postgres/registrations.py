"""The registrations of one cell, and their cases at providers of identity proofing."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import digest_of, ended_registration
from domain.registrations import ENDED, ProofingCase, Registration, RegistrationStage, StageNote
from integrations.postgres.audit_entries import Connection, append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as
from integrations.postgres.registration_records import registration_record

_COLUMNS = """
registration_id, voter_id, region, created_at, stage, reasons, staff_reasons, case_no, provider, reference, expires_at,
revision, secret_key_id
"""
_BEGIN = """
INSERT INTO identity.registration (registration_id, voter_id, region, expires_at, secret_key_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT pk_registration DO NOTHING
"""
_GET = f"SELECT {_COLUMNS} FROM identity.registration WHERE registration_id = $1"  # noqa: S608 - constants, here and below
_OF_VOTER = f"SELECT {_COLUMNS} FROM identity.registration WHERE voter_id = $1"  # noqa: S608
_UNSTARTED = f"""
SELECT {_COLUMNS} FROM identity.registration WHERE revision = 0 AND created_at < $1 ORDER BY created_at LIMIT $2
"""  # noqa: S608
_NOTE = """
UPDATE identity.registration
SET revision = $2, stage = $3, reasons = $4, staff_reasons = $5, case_no = $6, provider = $7, reference = $8,
    expires_at = $9, policy_version = $10, updated_at = now()
WHERE registration_id = $1 AND revision < $2
"""
_KNOWN = "SELECT EXISTS (SELECT FROM identity.registration WHERE registration_id = $1)"
# Apart from the order of notes: a case that was opened is to be erased, also where a later note was first.
_NOTE_CASE = """
INSERT INTO identity.proofing_case (registration_id, case_no, provider, reference) VALUES ($1, $2, $3, $4)
ON CONFLICT ON CONSTRAINT pk_proofing_case DO NOTHING
"""
_CASE_AT = """
SELECT registration_id, case_no, provider, reference, erased_at IS NOT NULL AS erased FROM identity.proofing_case
WHERE provider = $1 AND reference = $2
"""
_CASES_OF = """
SELECT registration_id, proofing_case.case_no, proofing_case.provider, proofing_case.reference,
    erased_at IS NOT NULL AS erased
FROM identity.proofing_case JOIN identity.registration USING (registration_id)
WHERE voter_id = $1 ORDER BY registration_id, proofing_case.case_no
"""
_NOTE_ERASED = """
UPDATE identity.proofing_case SET erased_at = coalesce(erased_at, now()) WHERE registration_id = $1 AND case_no = $2
"""


class PostgresRegistrations:
    """Implements `Registrations`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def begin(
        self,
        registration_id: str,
        voter_id: str,
        region: str,
        expires_at: datetime | None = None,
        secret_key_id: str = "",
    ) -> None:
        """Add a registration at its first stage."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_BEGIN, registration_id, voter_id, region, expires_at, secret_key_id)

    async def get(self, registration_id: str) -> Registration | None:
        """Return a registration, or None."""
        return await self._one(_GET, registration_id)

    async def of_voter(self, voter_id: str) -> Registration | None:
        """Return the registration that a voter came from, or None."""
        return await self._one(_OF_VOTER, voter_id)

    async def _one(self, query: str, identifier: str) -> Registration | None:
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(query, identifier)
        return None if row is None else _registration(row)

    async def note(self, note: StageNote) -> None:
        """Keep what became of a registration, in every field, and its case at the provider."""
        row = (
            note.registration_id,
            note.revision,
            note.stage,
            note.reasons,
            note.staff_reasons,
            note.case_no,
            note.provider,
            note.reference,
            note.expires_at,
            note.policy_version,
        )
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                done = await connection.execute(_NOTE, *row)
                if done == "UPDATE 0" and not await connection.fetchval(_KNOWN, note.registration_id):
                    raise DomainError(ErrorCode.REGISTRATION_NOT_FOUND)
                changes = done != "UPDATE 0"
                if note.reference and note.case_no:
                    case = (note.registration_id, note.case_no, note.provider, note.reference)
                    changes |= await connection.execute(_NOTE_CASE, *case) != "INSERT 0 0"
                if changes:  # also by a case that a late note names: its end is sealed anew, as the record shows it now
                    await _seal_end(connection, note.registration_id)

    async def unstarted(self, before: datetime, limit: int) -> Sequence[Registration]:
        """Return registrations begun before an instant of which nothing was ever noted, oldest first."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_UNSTARTED, before, limit)
        return [_registration(row) for row in rows]

    async def case_at(self, provider: str, reference: str) -> ProofingCase | None:
        """Return the case that a provider knows by this reference, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_CASE_AT, provider, reference)
        return None if row is None else ProofingCase(**dict(row))

    async def cases_of(self, voter_id: str) -> tuple[ProofingCase, ...]:
        """Return every case of a voter that a note has named, oldest first."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_CASES_OF, voter_id)
        return tuple(ProofingCase(**dict(row)) for row in rows)

    async def note_erased(self, registration_id: str, case_no: int) -> None:
        """Note that the provider has confirmed the erasure of a case."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_NOTE_ERASED, registration_id, case_no)


async def _seal_end(connection: Connection, registration_id: str) -> None:
    """Write the entry of a registration's end, where it is at one, in the transaction of what changed it."""
    record = await registration_record(connection, registration_id)
    if record is None or record["stage"] not in ENDED:
        return
    entry = AuditEntry(
        AuditKind.REGISTRATION_ENDED,
        "process:register-voter",
        registration_id,
        outcome=record["stage"],
        after=digest_of(ended_registration(registration_id, record)),
        facts={"caseNo": record["caseNo"]},
    )
    await append(connection, entry)


def _registration(row: asyncpg.Record) -> Registration:
    fields = dict(row)
    return Registration(
        **{
            **fields,
            "stage": RegistrationStage(fields["stage"]),
            "reasons": tuple(fields["reasons"]),
            "staff_reasons": tuple(fields["staff_reasons"]),
        }
    )
