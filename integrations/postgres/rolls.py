"""Rolls of one cell, and the claims by which a document names a person before anybody has registered with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from domain.accounts import KeyedHash
from domain.audit import AuditEntry, AuditKind, actor_of
from domain.errors import ErrorCode
from domain.rolls import RollOutcome
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_ENROL_VOTERS = """
WITH asked AS (
    SELECT DISTINCT voter_id FROM unnest($2::text[]) AS asked (voter_id)
), enrolled AS (
    INSERT INTO identity.roll (survey_id, person_id)
    SELECT DISTINCT $1, person_id FROM identity.voter JOIN asked USING (voter_id)
    WHERE person_id IS NOT NULL ORDER BY person_id
    ON CONFLICT ON CONSTRAINT pk_roll DO NOTHING
    RETURNING person_id
)
SELECT asked.voter_id, voter.voter_id IS NOT NULL AS known, voter.person_id,
    enrolled.person_id IS NOT NULL AS enrolled
FROM asked LEFT JOIN identity.voter USING (voter_id) LEFT JOIN enrolled ON enrolled.person_id = voter.person_id
"""
_ADD_PERSONS = """
INSERT INTO identity.person (person_id) SELECT DISTINCT unnest($1::text[]) ORDER BY 1
ON CONFLICT ON CONSTRAINT pk_person DO NOTHING
"""
_ENROL_PERSONS = """
INSERT INTO identity.roll (survey_id, person_id) SELECT DISTINCT $1, unnest($2::text[]) ORDER BY 2
ON CONFLICT ON CONSTRAINT pk_roll DO NOTHING
RETURNING person_id
"""
_NOTE = """
INSERT INTO identity.change (subject, change, reason, actor) VALUES ($1, 'roll_enrolled', $2, $3)
"""
# From now on the claim names the person for good: a registration that fails does not take the name along.
_NAME = """
INSERT INTO identity.document_claim (key_id, digest, person_id, home_cell, settled)
SELECT key_id, digest, person_id, home_cell, true
FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[]) AS named (key_id, digest, person_id, home_cell)
ORDER BY key_id, digest
ON CONFLICT ON CONSTRAINT pk_document_claim DO UPDATE SET settled = true
RETURNING key_id, digest, person_id, home_cell
"""


@dataclass(frozen=True, slots=True)
class NamedPerson:
    """A person and the cell that is home to them."""

    person_id: str
    home_cell: str


class PostgresRolls:
    """The rolls of one cell; made for the role `comitia_rolls`. All calls raise DomainError `directory_unavailable`.

    All are safe to repeat; `actor` says who does it.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def enrol_voters(self, survey_id: str, voter_ids: Sequence[str], actor: str) -> dict[str, RollOutcome]:
        """Put the persons behind voters on a roll, and tell of each voter what came of it."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                rows = await connection.fetch(_ENROL_VOTERS, survey_id, voter_ids)
                await self._note(connection, survey_id, sum(row["enrolled"] for row in rows), actor)
        return {row["voter_id"]: _outcome(row) for row in rows}

    async def enrol_persons(self, survey_id: str, person_ids: Sequence[str], actor: str) -> frozenset[str]:
        """Put persons on a roll, also such as have no account yet; return those who were not on it."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_ADD_PERSONS, person_ids)
                rows = await connection.fetch(_ENROL_PERSONS, survey_id, person_ids)
                await self._note(connection, survey_id, len(rows), actor)
        return frozenset(row["person_id"] for row in rows)

    async def name_persons(
        self, documents: Sequence[tuple[KeyedHash, NamedPerson]]
    ) -> dict[tuple[str, bytes], NamedPerson]:
        """Let documents whose claims live here name persons: whom they name already, or else the ones given."""
        distinct = {(document.key_id, document.digest): named for document, named in documents}
        columns = (
            [key_id for key_id, _ in distinct],
            [digest for _, digest in distinct],
            [named.person_id for named in distinct.values()],
            [named.home_cell for named in distinct.values()],
        )
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                rows = await connection.fetch(_NAME, *columns)
        return {(row["key_id"], row["digest"]): NamedPerson(row["person_id"], row["home_cell"]) for row in rows}

    @staticmethod
    async def _note(
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", survey_id: str, enrolled: int, actor: str
    ) -> None:
        if enrolled:
            await connection.execute(_NOTE, survey_id, f"persons={enrolled}", actor)
            facts = {"persons": enrolled}
            await append(connection, AuditEntry(AuditKind.ROLL_ENROLLED, actor_of(actor), survey_id, facts=facts))


def _outcome(row: asyncpg.Record) -> RollOutcome:
    if not row["known"]:
        return RollOutcome.UNKNOWN_VOTER
    if row["person_id"] is None:
        return RollOutcome.NOT_PROOFED
    return RollOutcome.ENROLLED if row["enrolled"] else RollOutcome.ALREADY_ENROLLED
