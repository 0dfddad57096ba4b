"""Personal keys re-wrapped in a real cell while voters come and go, by a role that sees none of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from domain.accounts import PersonalData
from domain.errors import DomainError, ErrorCode
from domain.ids import new_voter_id
from domain.key_ports import PersonalKey
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import KEK_PERSONAL, manage
from integrations.postgres.personal_keys import PostgresPersonalKeys
from integrations.postgres.personal_records import PostgresPersonalRecords
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import SURVEYS
from tests.conftest import OwnerPool, SettingsFor


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def surveys_pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(SURVEYS)
    pool = await open_pool(settings.cells["eu"].database, settings, SURVEYS, size=4)
    yield pool
    await pool.close()


@pytest.fixture
def rotating(tmp_path: Path) -> FileKms:
    """What the platform's worker may: nothing that shows a key."""
    return FileKms(tmp_path / "keys", frozenset({manage(KEK_PERSONAL)}))


async def rewrap_all(keys: PostgresPersonalKeys, rotating: FileKms, *, page: int = 7) -> int:
    """Do what a rotation does, in small pages."""
    *old, newest = await rotating.key_ids(KEK_PERSONAL)
    done = 0
    for key_id in old:
        after = ""
        while found := await keys.under(key_id, after, page):
            done += await keys.replace(
                newest, [(key, await rotating.rewrap(key.wrapped, key.voter_id)) for key in found]
            )
            after = found[-1].voter_id
    return done


@pytest_asyncio.fixture
async def _alone(owner_pool: OwnerPool) -> None:
    """Take away keys that other tests wrapped, under versions of the same names in folders of theirs."""
    pool = await owner_pool("eu")
    await pool.execute("DELETE FROM identity.personal; DELETE FROM identity.personal_key WHERE destroyed_at IS NULL")


@pytest.mark.usefixtures("_alone")
async def test_keys_are_rewrapped_while_voters_come_change_and_go(
    identity_pool: asyncpg.Pool,
    surveys_pool: asyncpg.Pool,
    identity_keys: FileKms,
    rotating: FileKms,
    owner_pool: OwnerPool,
) -> None:
    records, keys = PostgresPersonalRecords(identity_pool, identity_keys), PostgresPersonalKeys(surveys_pool)
    voters = [new_voter_id("eu") for _ in range(20)]
    await asyncio.gather(*(records.put(voter, PersonalData({"mail": voter})) for voter in voters))
    old = (await identity_keys.current(KEK_PERSONAL)).key_id
    newest = (await identity_keys.rotate(KEK_PERSONAL)).key_id
    assert await keys.uses(old)
    late, gone = [new_voter_id("eu") for _ in range(5)], voters[:5]
    passes = await asyncio.gather(
        rewrap_all(keys, rotating),
        rewrap_all(keys, rotating, page=3),
        *(records.put(voter, PersonalData({"mail": voter})) for voter in late),
        *(records.put(voter, PersonalData({"phone": "+49301234567"})) for voter in voters[5:10]),
        *(records.destroy(voter) for voter in gone),
    )
    assert await rewrap_all(keys, rotating) == 0
    assert 15 <= sum(filter(None, passes)) <= 20
    assert not await keys.uses(old)
    await identity_keys.destroy(old)
    for voter in voters[5:] + late:
        found = await records.get(voter)
        assert found is not None
        assert found.fields["mail"] == voter
    assert [await records.get(voter) for voter in gone] == [None] * 5
    notes = await (await owner_pool("eu")).fetch(
        "SELECT reason, actor FROM identity.change WHERE subject = $1 AND change = 'personal_keys_rewrapped'", newest
    )
    assert sum(int(row["reason"].removeprefix("voters=")) for row in notes) >= 15
    assert {row["actor"] for row in notes} == {"rotate_keys"}


async def test_a_wrapping_that_changed_meanwhile_is_left_alone(
    identity_pool: asyncpg.Pool, surveys_pool: asyncpg.Pool, identity_keys: FileKms
) -> None:
    records, keys = PostgresPersonalRecords(identity_pool, identity_keys), PostgresPersonalKeys(surveys_pool)
    voter, destroyed = new_voter_id("eu"), new_voter_id("eu")
    for one in (voter, destroyed):
        await records.put(one, PersonalData({"mail": one}))
    await records.destroy(destroyed)
    stale = [(PersonalKey(one, b"as it was"), b"another") for one in (voter, destroyed, new_voter_id("eu"))]
    assert await keys.replace((await identity_keys.current(KEK_PERSONAL)).key_id, stale) == 0
    found = await records.get(voter)
    assert found is not None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT ciphertext FROM identity.personal",
        "DELETE FROM identity.personal_key",
        "UPDATE identity.personal_key SET destroyed_at = now()",
        "SELECT FROM identity.lookup",
        "SELECT FROM identity.document_claim",
        "SELECT FROM identity.change",
        "SELECT FROM identity.staff",
    ],
)
async def test_who_rewraps_keys_reads_nothing_else(surveys_pool: asyncpg.Pool, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await surveys_pool.execute(statement)


async def test_keys_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    keys = PostgresPersonalKeys(closed_pool)
    for call in (keys.under("k", "", 1), keys.replace("k", []), keys.uses("k")):
        with pytest.raises(DomainError) as away:
            await call
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
