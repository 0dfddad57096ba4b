"""The directory of one cell: what admission reads of voters, and how voters come into being."""

from collections.abc import Sequence

import asyncpg

from domain.eligibility import Asked, Candidate, VoterStatus
from domain.errors import ErrorCode
from domain.ids import new_person_id, new_voter_id
from domain.tokens import Assurance
from integrations.postgres.failures import unavailable_as

# However many ask at once, one read; each row by primary keys, and of the devices of one voter the one that is named.
_CANDIDATES = """
SELECT v.voter_id, v.person_id, v.status, v.assurance, v.region, v.age_class, EXISTS (
    SELECT FROM identity.roll AS r WHERE r.survey_id = asked.survey_id AND r.person_id = v.person_id
) AS on_roll, device.flags AS device_flags, device.last_seen AS device_seen_at
FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS asked (voter_id, survey_id, device, place)
LEFT JOIN identity.voter AS v ON v.voter_id = asked.voter_id
LEFT JOIN LATERAL (
    SELECT seen.flags, seen.last_seen FROM identity.device_sighting AS seen
    WHERE asked.device IS NOT NULL AND seen.voter_id = asked.voter_id AND seen.digest = asked.device LIMIT 1
) AS device ON true
ORDER BY asked.place
"""

_CREATE_PERSONS = "INSERT INTO identity.person (person_id) SELECT unnest($1::text[])"
_CREATE_VOTERS = """
INSERT INTO identity.voter (voter_id, person_id, status, assurance, region, age_class)
SELECT created.voter_id, created.person_id, $3, $4, $5, $6
FROM unnest($1::text[], $2::text[]) AS created (voter_id, person_id)
"""


class Directory:
    """Reads `identity.voter` and `identity.roll` of one cell, and writes voters and persons."""

    def __init__(self, pool: asyncpg.Pool, cell: str) -> None:
        self._pool = pool
        self._cell = cell

    async def candidates(self, asked: Sequence[Asked]) -> list[Candidate | None]:
        """Return, in order, each as seen by that survey's roll, or None for no such voter.

        Raises:
            DomainError: `directory_unavailable`.
        """
        columns = [one.voter_id for one in asked], [one.survey_id for one in asked], [one.device for one in asked]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_CANDIDATES, *columns)
        return [_candidate(row) if row["voter_id"] is not None else None for row in rows]

    async def create_voters(
        self,
        count: int,
        region: str,
        *,
        age_class: int = 18,
        status: VoterStatus = VoterStatus.ACTIVE,
        assurance: Assurance = Assurance.SUBSTANTIAL,
    ) -> list[str]:
        """Create that many voters, each of a new person of their own, in one transaction; return their ids."""
        voters = [new_voter_id(self._cell) for _ in range(count)]
        persons = [new_person_id() for _ in range(count)]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_CREATE_PERSONS, persons)
                await connection.execute(_CREATE_VOTERS, voters, persons, status, assurance, region, age_class)
        return voters


def _candidate(row: asyncpg.Record) -> Candidate:
    voter_id, person_id, status, assurance, region, age_class, on_roll, flags, seen_at = row
    return Candidate(
        voter_id,
        person_id,
        VoterStatus(status),
        Assurance(assurance),
        region,
        age_class,
        on_roll,
        frozenset(flags) if flags else frozenset(),
        seen_at,
    )
