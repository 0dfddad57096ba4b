"""What is archived is noted once and for good, a file with all that is in it or not at all."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from domain.contracts.archive import ClosedExecution, LeftOut
from domain.contracts.exports import StoredObject
from domain.errors import DomainError, ErrorCode
from domain.history_packs import GONE, PackedHistory, packed
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from tests.conftest import SettingsFor

CELL = "us"
BEGAN = datetime(2020, 1, 2, tzinfo=UTC)  # long before anybody else's


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(AUDIT)
    opened = await open_pool(settings.cells[CELL].database, settings, AUDIT)
    yield opened
    await opened.close()


def new_name() -> str:
    """Return the name of a file that is nowhere, and that a store takes for one."""
    return f"histories/{CELL}/{secrets.token_hex(8)}.pack"


def execution(workflow_id: str, run_id: str = "1") -> ClosedExecution:
    started = BEGAN + timedelta(seconds=int(run_id))
    return ClosedExecution(
        workflow_id=workflow_id, run_id=run_id, workflow_type="T", started_at=started, closed_at=started
    )


def history(workflow_id: str, run_id: str = "1") -> PackedHistory:
    return replace(packed(execution(workflow_id, run_id), b"events"), first_byte=20)


def file(name: str) -> StoredObject:
    return StoredObject(name=name, size_bytes=100, sha256=bytes(32))


async def test_a_file_is_noted_once_by_many_and_the_first_place_of_a_history_stays(pool: asyncpg.Pool) -> None:
    archive, name = PostgresArchive(pool), new_name()
    histories = [history(name), history(name, "2")]
    await asyncio.gather(*(archive.note(file(name), histories, ()) for _ in range(8)))
    await archive.note(file(new_name()), histories, ())
    newest = await archive.place(name)
    assert newest is not None
    assert (newest.run_id, newest.name, newest.first_byte, newest.digest) == ("2", name, 20, histories[1].digest)
    assert await archive.missing([execution(name, "3"), execution(name, "1"), execution("other")]) == [
        execution(name, "3"),
        execution("other"),
    ]
    found = [each async for each in archive.started(BEGAN, BEGAN + timedelta(seconds=2)) if each.workflow_id == name]
    assert [each.run_id for each in found] == ["1"]
    assert name in [stored.name async for stored in archive.objects()]


async def test_what_is_left_out_is_noted_with_its_reason_and_is_not_missing(pool: asyncpg.Pool) -> None:
    archive, name = PostgresArchive(pool), new_name()
    before = await archive.counts()
    for _ in range(2):
        await archive.note(None, (), [LeftOut(execution=execution(name), why=GONE)])
    place = await archive.place(name, "1")
    assert place is not None
    assert (place.name, place.left_out) == ("", GONE)
    assert await archive.missing([execution(name)]) == []
    assert (await archive.counts()).left_out == before.left_out + 1


async def test_a_file_of_which_one_history_cannot_be_noted_is_not_noted(pool: asyncpg.Pool) -> None:
    archive, name = PostgresArchive(pool), new_name()
    with pytest.raises(asyncpg.CheckViolationError):
        await archive.note(file(name), [history(name), replace(history(name, "2"), events=b"")], ())
    assert await archive.place(name) is None
    assert name not in [stored.name async for stored in archive.objects()]


async def test_the_archive_is_complete_until_the_latest_that_was_said(pool: asyncpg.Pool) -> None:
    archive = PostgresArchive(pool)
    now = datetime.now(UTC)
    for moment in (now, now, now - timedelta(hours=1)):
        await archive.mark(moment)
    complete_until = (await archive.counts()).complete_until
    assert complete_until is not None
    assert complete_until >= now


@pytest.mark.parametrize("table", ["archive_object", "archived_history", "archive_mark"])
async def test_what_is_noted_is_changed_by_nobody(pool: asyncpg.Pool, table: str) -> None:
    for statement in (f"DELETE FROM audit.{table}", f"TRUNCATE audit.{table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def test_a_database_that_is_away_is_said_to_be(closed_pool: asyncpg.Pool) -> None:
    with pytest.raises(DomainError) as away:
        await PostgresArchive(closed_pool).counts()
    assert away.value.code is ErrorCode.AUDIT_LOG_UNAVAILABLE
