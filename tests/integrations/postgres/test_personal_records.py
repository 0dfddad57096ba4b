"""Personal data in a real cell: one key per voter, and nothing left once it is destroyed."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from domain.accounts import PersonalData
from domain.errors import DomainError, ErrorCode
from domain.ids import new_voter_id
from integrations.keys.file_kms import FileKms
from integrations.keys.personal import FIELDS_MAX, open_fields, seal_fields
from integrations.keys.purposes import KEK_PERSONAL, manage
from integrations.postgres.personal_records import PostgresPersonalRecords
from tests.conftest import OwnerPool

MAIL = "anna.schmidt@example.org"
ROWS = "SELECT kek_id, wrapped, ciphertext FROM identity.personal_key LEFT JOIN identity.personal USING (voter_id)"


@pytest.fixture
def records(identity_pool: asyncpg.Pool, identity_keys: FileKms) -> PostgresPersonalRecords:
    return PostgresPersonalRecords(identity_pool, identity_keys)


async def code_of(awaitable: object) -> ErrorCode:
    with pytest.raises(DomainError) as refused:
        await awaitable  # type: ignore[misc]
    return refused.value.code


async def test_fields_are_added_and_replaced_and_read_back(records: PostgresPersonalRecords) -> None:
    voter = new_voter_id("eu")
    assert await records.get(voter) is None
    for _ in range(2):
        await records.put(voter, PersonalData({"mail": MAIL}))
    await records.put(voter, PersonalData({"phone": "+49301234567"}))
    await records.put(voter, PersonalData({"phone": "+49307654321"}))
    found = await records.get(voter)
    assert found is not None
    assert found.fields == {"mail": MAIL, "phone": "+49307654321"}
    assert MAIL not in repr(found)


async def test_nothing_in_the_database_tells_it(
    records: PostgresPersonalRecords, identity_keys: FileKms, owner_pool: OwnerPool
) -> None:
    voters = [new_voter_id("eu"), new_voter_id("eu")]
    for voter in voters:
        await records.put(voter, PersonalData({"mail": MAIL}))
    pool = await owner_pool("eu")
    rows = [await pool.fetchrow(ROWS + " WHERE voter_id = $1", voter) for voter in voters]
    for row in rows:
        assert row is not None
        assert row["kek_id"] == (await identity_keys.current(KEK_PERSONAL)).key_id
        assert b"anna" not in row["ciphertext"] + row["wrapped"]
    assert rows[0] is not None
    assert rows[1] is not None
    assert await code_of(identity_keys.unwrap(rows[0]["wrapped"], voters[1])) is ErrorCode.KEY_UNAVAILABLE
    await pool.execute(
        "UPDATE identity.personal SET ciphertext = $2 WHERE voter_id = $1", voters[1], rows[0]["ciphertext"]
    )
    assert await code_of(records.get(voters[1])) is ErrorCode.KEY_UNAVAILABLE


async def test_many_who_put_at_once_lose_nothing(records: PostgresPersonalRecords) -> None:
    voter = new_voter_id("eu")
    await asyncio.gather(*(records.put(voter, PersonalData({f"field_{n}": str(n)})) for n in range(10)))
    found = await records.get(voter)
    assert found is not None
    assert found.fields == {f"field_{n}": str(n) for n in range(10)}


async def test_a_destroyed_key_takes_every_copy_along(
    records: PostgresPersonalRecords, identity_keys: FileKms, owner_pool: OwnerPool
) -> None:
    voter, pool = new_voter_id("eu"), await owner_pool("eu")
    await records.put(voter, PersonalData({"mail": MAIL}))
    backup = await pool.fetchrow(ROWS + " WHERE voter_id = $1", voter)
    assert backup is not None
    await asyncio.gather(*(records.destroy(voter) for _ in range(4)))
    assert await records.get(voter) is None
    assert await code_of(records.put(voter, PersonalData({"mail": MAIL}))) is ErrorCode.KEY_DESTROYED
    assert tuple(await pool.fetchrow(ROWS + " WHERE voter_id = $1", voter) or ()) == (None, None, None)
    changes = await pool.fetchval("SELECT count(*) FROM identity.change WHERE subject = $1", voter)
    assert changes == 1
    await identity_keys.rotate(KEK_PERSONAL)
    await identity_keys.destroy(backup["kek_id"])  # within a month: then the backup tells nothing either
    assert await code_of(identity_keys.unwrap(backup["wrapped"], voter)) is ErrorCode.KEY_DESTROYED


async def test_putting_and_destroying_at_once_leaves_nothing(records: PostgresPersonalRecords) -> None:
    for _ in range(3):
        voter = new_voter_id("eu")
        puts = [records.put(voter, PersonalData({"mail": MAIL})) for _ in range(5)]
        await asyncio.gather(*puts, records.destroy(voter), return_exceptions=True)
        assert await records.get(voter) is None


async def test_a_destroyed_voter_never_gets_a_key(records: PostgresPersonalRecords, owner_pool: OwnerPool) -> None:
    voter = new_voter_id("eu")
    await records.destroy(voter)
    assert await code_of(records.put(voter, PersonalData({"mail": MAIL}))) is ErrorCode.KEY_DESTROYED
    revive = "UPDATE identity.personal_key SET destroyed_at = NULL, kek_id = 'k', wrapped = 'w' WHERE voter_id = $1"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await (await owner_pool("eu")).execute(revive, voter)


async def test_a_key_whose_wrapping_is_gone_before_anything_was_kept_is_made_anew(
    records: PostgresPersonalRecords, identity_keys: FileKms, owner_pool: OwnerPool
) -> None:
    voter, pool = new_voter_id("eu"), await owner_pool("eu")
    made = await identity_keys.generate_data_key(KEK_PERSONAL, voter)
    old = (await identity_keys.current(KEK_PERSONAL)).key_id
    await pool.execute(
        "INSERT INTO identity.personal_key (voter_id, kek_id, wrapped) VALUES ($1, $2, $3)", voter, old, made.wrapped
    )
    await identity_keys.rotate(KEK_PERSONAL)
    await identity_keys.destroy(old)
    await records.put(voter, PersonalData({"mail": MAIL}))
    found = await records.get(voter)
    assert found is not None
    assert found.fields == {"mail": MAIL}


async def test_data_whose_wrapping_is_gone_is_gone_and_not_overwritten(
    records: PostgresPersonalRecords, identity_keys: FileKms
) -> None:
    voter = new_voter_id("eu")
    await records.put(voter, PersonalData({"mail": MAIL}))
    old = (await identity_keys.current(KEK_PERSONAL)).key_id
    await identity_keys.rotate(KEK_PERSONAL)
    await identity_keys.destroy(old)
    assert await records.get(voter) is None
    assert await code_of(records.put(voter, PersonalData({"mail": MAIL}))) is ErrorCode.KEY_DESTROYED


async def test_too_much_is_refused_and_changes_nothing(records: PostgresPersonalRecords) -> None:
    voter = new_voter_id("eu")
    await records.put(voter, PersonalData({"mail": MAIL, "advice": "x" * (FIELDS_MAX - 200)}))
    large = records.put(voter, PersonalData({"more": "x" * 300}))
    assert await code_of(large) is ErrorCode.PAYLOAD_TOO_LARGE
    found = await records.get(voter)
    assert found is not None
    assert set(found.fields) == {"mail", "advice"}


async def test_who_may_not_unwrap_reads_nothing(identity_pool: asyncpg.Pool, tmp_path: Path) -> None:
    records = PostgresPersonalRecords(identity_pool, FileKms(tmp_path / "keys", frozenset({manage(KEK_PERSONAL)})))
    put = records.put(new_voter_id("eu"), PersonalData({"mail": MAIL}))
    assert await code_of(put) is ErrorCode.KEY_UNAVAILABLE


async def test_records_that_are_away_say_so(closed_pool: asyncpg.Pool, identity_keys: FileKms) -> None:
    records, voter = PostgresPersonalRecords(closed_pool, identity_keys), new_voter_id("eu")
    for call in (records.put(voter, PersonalData({})), records.get(voter), records.destroy(voter)):
        assert await code_of(call) is ErrorCode.DIRECTORY_UNAVAILABLE


def test_a_seal_says_little_of_its_length_and_nothing_twice() -> None:
    key = bytes(range(32))
    short, longer = (seal_fields({"mail": mail}, key, "v") for mail in ("a@b.de", MAIL))
    assert len(short) == len(longer)
    assert seal_fields({"mail": MAIL}, key, "v") != longer
    assert open_fields(longer, key, "v") == {"mail": MAIL}
    for sealed in (b"", b"\x02" + longer[1:], longer[:-1], longer[:20]):
        with pytest.raises(DomainError):
            open_fields(sealed, key, "v")
