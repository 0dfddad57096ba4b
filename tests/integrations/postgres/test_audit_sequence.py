"""Places of audit entries in a real database: in order, once, and nobody's left out."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.ids import new_staff_id
from domain.merkle import leaf_hash
from integrations.postgres.audit_entries import append
from integrations.postgres.audit_sequence import _BEFORE_ALL, _NEXT, PostgresAuditSequence
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from tests.conftest import OwnerPool, SettingsFor

CELL = "us"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def audit_pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(AUDIT)
    pool = await open_pool(settings.cells[CELL].database, settings, AUDIT)
    yield pool
    await pool.close()


@pytest.fixture
def sequence(audit_pool: asyncpg.Pool) -> PostgresAuditSequence:
    return PostgresAuditSequence(audit_pool)


@pytest.fixture
def staffing(staffing_pools: dict[str, asyncpg.Pool]) -> asyncpg.Pool:
    return staffing_pools[CELL]


async def write(connection: asyncpg.pool.PoolConnectionProxy) -> str:
    """Write an entry; return the subject that it is known by."""
    staff = new_staff_id(CELL)
    await append(connection, AuditEntry(AuditKind.STAFF_DISABLED, "comitia:tests", staff))
    return staff


@asynccontextmanager
async def writing(pool: asyncpg.Pool) -> AsyncIterator[str]:
    """An entry whose transaction is open while the body runs."""
    async with pool.acquire() as connection, connection.transaction():
        yield await write(connection)


async def sequenced(sequence: PostgresAuditSequence, most: int = 500) -> int:
    """Give places until everybody who can have one has it."""
    more, size = True, 0
    while more:
        size, more = await sequence.sequence(most)
    return size


async def subjects(sequence: PostgresAuditSequence, first: int, end: int) -> list[str]:
    return [json.loads(entry.leaf)["body"].get("subject", "") for entry in await sequence.entries(first, end)]


async def test_an_entry_gets_a_place_once_and_keeps_it(sequence: PostgresAuditSequence, staffing: asyncpg.Pool) -> None:
    before = await sequenced(sequence)
    async with writing(staffing) as subject:
        pass
    after = await sequenced(sequence)
    assert await sequenced(sequence) == after
    found = await sequence.entries(before, after)
    assert subject in await subjects(sequence, before, after)
    assert [entry.index for entry in found] == list(range(before, after))
    assert all(leaf_hash(entry.leaf) == entry.leaf_hash for entry in found)
    assert await sequence.passed_over(0, after) == await sequence.passed_over(before, after) == ""


async def test_a_transaction_that_commits_late_is_waited_for_and_nobody_overtakes_it(
    sequence: PostgresAuditSequence, staffing: asyncpg.Pool
) -> None:
    before = await sequenced(sequence)
    async with writing(staffing) as late:
        async with writing(staffing) as early:
            pass  # begun after the late one, committed before it
        held = await sequenced(sequence)
        assert early not in await subjects(sequence, before, held)
    after = await sequenced(sequence)
    found = await subjects(sequence, before, after)
    assert [subject for subject in found if subject in {late, early}] == [late, early]
    assert await sequence.passed_over(0, after) == await sequence.passed_over(before, after) == ""


async def test_it_is_known_for_how_long_an_entry_waits_behind_an_open_transaction(
    sequence: PostgresAuditSequence, staffing: asyncpg.Pool
) -> None:
    async with writing(staffing):
        async with writing(staffing):
            pass  # waits for the one that is open
        await sequenced(sequence)
        first = await sequence.waited()
        second = await sequence.waited()
        assert timedelta() < first < second < timedelta(minutes=5)
    await sequenced(sequence)
    assert await sequence.waited() == timedelta()


async def test_what_is_rolled_back_leaves_no_hole(sequence: PostgresAuditSequence, staffing: asyncpg.Pool) -> None:
    before = await sequenced(sequence)
    with pytest.raises(RuntimeError):
        async with writing(staffing) as undone:
            raise RuntimeError
    async with writing(staffing) as done:
        pass
    after = await sequenced(sequence)
    found = await subjects(sequence, before, after)
    assert done in found
    assert undone not in found


async def test_many_write_and_many_give_places_at_once(sequence: PostgresAuditSequence, staffing: asyncpg.Pool) -> None:
    before = await sequenced(sequence)
    written: list[str] = []

    async def one(number: int) -> None:
        async with writing(staffing) as subject:
            await asyncio.sleep(0.002 * (number % 7))
        written.append(subject)

    async def give() -> None:
        for _ in range(12):
            await sequence.sequence(5)

    await asyncio.gather(*(one(number) for number in range(60)), *(give() for _ in range(3)))
    after = await sequenced(sequence, 7)
    found = [subject for subject in await subjects(sequence, before, after) if subject in set(written)]
    assert len(found) == len(set(found)) == 60
    assert [entry.index for entry in await sequence.entries(before, after)] == list(range(before, after))
    assert await sequence.passed_over(0, after) == await sequence.passed_over(before, after) == ""


async def test_transactions_are_in_the_order_of_their_numbers(owner_pool: OwnerPool) -> None:
    pool = await owner_pool(CELL)
    async with pool.acquire() as connection:
        undone = connection.transaction()
        await undone.start()
        for number in ("100", "9", "10", "99"):
            await connection.execute(
                "INSERT INTO audit.entry (xid, kind, body) VALUES ($1::text::xid8, 'x', '{}')", number
            )
        rows = await connection.fetch(_NEXT, *_BEFORE_ALL, 4)
        await undone.rollback()
    assert [row["number"] for row in rows] == ["9", "10", "99", "100"]


async def test_places_are_never_taken_back(sequence: PostgresAuditSequence, owner_pool: OwnerPool) -> None:
    await sequenced(sequence)
    pool = await owner_pool(CELL)
    for statement in ("UPDATE audit.leaf SET leaf_index = -1", "DELETE FROM audit.leaf", "TRUNCATE audit.leaf"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def test_a_role_writes_entries_or_gives_places_and_chooses_nothing_of_them(
    audit_pool: asyncpg.Pool, staffing: asyncpg.Pool
) -> None:
    forbidden = (
        (staffing, "INSERT INTO audit.entry (xid, kind, body) VALUES ('1', 'x', '{}')"),
        (staffing, "INSERT INTO audit.entry (entry_id, kind, body) VALUES (gen_random_uuid(), 'x', '{}')"),
        (staffing, "SELECT count(*) FROM audit.entry"),
        (staffing, "SELECT count(*) FROM audit.leaf"),
        (audit_pool, "INSERT INTO audit.entry (kind, body) VALUES ('x', '{}')"),
        (audit_pool, "DELETE FROM audit.leaf"),
        (audit_pool, "SELECT count(*) FROM identity.voter"),
        (audit_pool, "SELECT count(*) FROM voting.participation"),
    )
    for pool, statement in forbidden:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def test_an_entry_smuggled_in_behind_the_others_is_named(
    sequence: PostgresAuditSequence, staffing: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    async with writing(staffing):
        pass
    await sequenced(sequence)
    pool, ident = await owner_pool(CELL), uuid4()
    await pool.execute("INSERT INTO audit.entry (entry_id, xid, kind, body) VALUES ($1, '3', 'planted', '{}')", ident)
    try:
        size = await sequenced(sequence)
        assert await sequence.passed_over(0, size) == f"planted {ident} has no place"
        assert await sequence.passed_over(size - 1, size) == ""
    finally:
        await removed(pool, ident)


async def removed(pool: asyncpg.Pool, ident: UUID) -> None:
    """Take an entry away, as only the owner of the table can."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE audit.entry DISABLE TRIGGER USER")
        await connection.execute("DELETE FROM audit.entry WHERE entry_id = $1", ident)
        await connection.execute("ALTER TABLE audit.entry ENABLE TRIGGER USER")


@pytest.mark.parametrize("body", ['{"n": 1e5000}', f"{'[' * 5_000}{']' * 5_000}"])
async def test_an_entry_that_can_be_no_leaf_is_named(
    sequence: PostgresAuditSequence, owner_pool: OwnerPool, body: str
) -> None:
    await sequenced(sequence)
    pool, ident = await owner_pool(CELL), uuid4()
    await pool.execute("INSERT INTO audit.entry (entry_id, kind, body) VALUES ($1, 'planted', $2)", ident, body)
    try:
        with pytest.raises(DomainError, match=f"entry {ident}: no leaf") as refused:
            await sequenced(sequence)
        assert refused.value.code is ErrorCode.AUDIT_LOG_CONTRADICTED
    finally:
        await removed(pool, ident)


async def test_an_entry_out_of_its_transaction_is_not_written(staffing: asyncpg.Pool) -> None:
    async with staffing.acquire() as connection:
        with pytest.raises(AssertionError):
            await write(connection)
