"""The accounts of one cell in `identity.voter`, what they are found by, and what was done to them."""

from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from domain.accounts import Account, KeyedHash, LookupKind
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.tokens import Assurance
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

ACTOR = "identity"  # who changes accounts: the processes of this area

# The row is locked either way, so that closing and opening it for more look-ups take turns.
_OPEN = """
INSERT INTO identity.voter AS voter (voter_id, region) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT pk_voter DO UPDATE SET updated_at = voter.updated_at
RETURNING status
"""
_LOCK = "SELECT status FROM identity.voter WHERE voter_id = $1 FOR UPDATE"

# Who comes second waits for the first and then gets to know whose it is; sorted, so that two never wait for each other.
_LOOK_UP = """
INSERT INTO identity.lookup AS found (kind, key_id, digest, voter_id)
SELECT DISTINCT kind, key_id, digest, $4
FROM unnest($1::text[], $2::text[], $3::bytea[]) AS wanted (kind, key_id, digest)
ORDER BY kind, key_id, digest
ON CONFLICT ON CONSTRAINT pk_lookup DO UPDATE SET voter_id = found.voter_id
RETURNING voter_id
"""
_FORGET = """
DELETE FROM identity.lookup WHERE voter_id = $1 AND kind = $2
AND (key_id, digest) NOT IN (SELECT * FROM unnest($3::text[], $4::bytea[]))
"""

_COLUMNS = "voter_id, status, assurance, region, age_class, person_id, created_at"
_GET = f"SELECT {_COLUMNS} FROM identity.voter WHERE voter_id = $1"  # noqa: S608 - a constant
_FIND = """
SELECT voter_id, status, assurance, region, age_class, person_id, created_at
FROM identity.lookup JOIN identity.voter USING (voter_id)
WHERE kind = $1 AND (key_id, digest) IN (SELECT * FROM unnest($2::text[], $3::bytea[])) AND status <> 'closed'
    AND (provider = '' OR linked_at IS NOT NULL)
LIMIT 1
"""

_ACTIVATE = """
WITH person AS (
    INSERT INTO identity.person (person_id) VALUES ($2) ON CONFLICT ON CONSTRAINT pk_person DO NOTHING
), activated AS (
    UPDATE identity.voter
    SET person_id = $2, status = 'active', assurance = $3, age_class = $4, updated_at = now()
    WHERE voter_id = $1 AND status = 'registered' RETURNING voter_id
)
INSERT INTO identity.change (subject, change, reason, actor)
SELECT voter_id, 'activated', $5, $6 FROM activated RETURNING subject
"""
_SET_STATUS = """
WITH changed AS (
    UPDATE identity.voter SET status = $2, updated_at = now()
    WHERE voter_id = $1 AND status NOT IN ($2, 'closed')
        AND ($2 <> 'active' OR person_id IS NOT NULL) AND ($2 <> 'registered' OR person_id IS NULL)
    RETURNING voter_id
)
INSERT INTO identity.change (subject, change, reason, actor)
SELECT voter_id, 'status_' || $2, $3, $4 FROM changed RETURNING subject
"""
# A statement of its own, so that it sees what was added while the one before waited for the account.
_FREE = "DELETE FROM identity.lookup WHERE voter_id = $1"


class _TakenError(Exception):
    """Another open account has a look-up; ends the transaction."""


class PostgresAccounts:
    """Implements `Accounts`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool, cell: str) -> None:
        self._pool = pool
        self._cell = cell

    async def open(self, voter_id: str, region: str, lookups: Mapping[LookupKind, Sequence[KeyedHash]]) -> bool:
        """Add a registered voter found by these hashes; False where an open account has one of them."""
        return await self._hold(voter_id, [(kind, value) for kind in lookups for value in lookups[kind]], region)

    async def add_lookup(self, voter_id: str, kind: LookupKind, value: Sequence[KeyedHash]) -> bool:
        """Let an account be found by another value; False where another open account has it."""
        return await self._hold(voter_id, [(kind, one) for one in value])

    async def _hold(self, voter_id: str, wanted: Iterable[tuple[LookupKind, KeyedHash]], region: str = "") -> bool:
        hashes = list(wanted)
        kinds, keys = [str(kind) for kind, _ in hashes], [value.key_id for _, value in hashes]
        digests = [value.digest for _, value in hashes]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            try:
                async with acknowledged(self._pool) as connection:
                    status = (
                        await connection.fetchval(_OPEN, voter_id, region)
                        if region
                        else await connection.fetchval(_LOCK, voter_id)
                    )
                    _refuse_gone(voter_id, status)
                    holders = await connection.fetch(_LOOK_UP, kinds, keys, digests, voter_id)
                    if any(row["voter_id"] != voter_id for row in holders):
                        raise _TakenError
            except _TakenError:
                return False
        return True

    async def remove_lookups(self, voter_id: str, kind: LookupKind, kept: Sequence[KeyedHash] = ()) -> None:
        """Let an account no more be found by values of a kind, but for those kept."""
        keys, digests = [value.key_id for value in kept], [value.digest for value in kept]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_FORGET, voter_id, kind, keys, digests)

    async def find(self, kind: LookupKind, hashes: Sequence[KeyedHash]) -> Account | None:
        """Return the open account that one of these hashes leads to, or None."""
        keys, digests = [value.key_id for value in hashes], [value.digest for value in hashes]
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_FIND, kind, keys, digests)
        return None if row is None else self._account(row)

    async def get(self, voter_id: str) -> Account | None:
        """Return an account in any state, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_GET, voter_id)
        return None if row is None else self._account(row)

    async def activate(self, voter_id: str, person_id: str, assurance: Assurance, age_class: int) -> bool:
        """Make a registered voter an active one who is this person; False where the person has another open account."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            try:
                async with acknowledged(self._pool) as connection:
                    row = (voter_id, person_id, assurance, age_class, "proofed", ACTOR)
                    done = await connection.fetchval(_ACTIVATE, *row)
            except asyncpg.UniqueViolationError:
                return False
        if done is None:
            account = await self.get(voter_id)
            _refuse_gone(voter_id, None if account is None else account.status)
            if account is not None and account.status is VoterStatus.SUSPENDED and account.person_id is None:
                raise DomainError(ErrorCode.VOTER_NOT_ACTIVE, f"{voter_id} was suspended before")
            if account is not None and account.person_id != person_id:
                raise DomainError(ErrorCode.CLAIM_CONTRADICTED, f"{voter_id} is another person")
        return True

    async def set_status(self, voter_id: str, status: VoterStatus, reason: str) -> None:
        """Suspend, reactivate or close an account; `closed` is for good and frees its look-ups."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                done = await connection.fetchval(_SET_STATUS, voter_id, status, reason, ACTOR)
                if done is not None and status is VoterStatus.CLOSED:
                    await connection.execute(_FREE, voter_id)
        if done is None:
            account = await self.get(voter_id)
            if account is None or account.status is not status:
                _refuse_gone(voter_id, None if account is None else account.status)
                raise DomainError(ErrorCode.VOTER_NOT_VERIFIED, f"{voter_id} cannot be {status}")

    def _account(self, row: asyncpg.Record) -> Account:
        return Account(
            voter_id=row["voter_id"],
            cell=self._cell,
            status=VoterStatus(row["status"]),
            assurance=Assurance(row["assurance"]),
            region=row["region"],
            age_class=row["age_class"],
            person_id=row["person_id"],
            created_at=row["created_at"],
        )


def _refuse_gone(voter_id: str, status: str | None) -> None:
    if status is None:
        raise DomainError(ErrorCode.VOTER_NOT_FOUND, voter_id)
    if status == VoterStatus.CLOSED:
        raise DomainError(ErrorCode.VOTER_NOT_ACTIVE, f"{voter_id} is closed")
