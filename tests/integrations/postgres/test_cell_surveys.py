import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from domain.contracts.surveys import InstallSurveyInput, Option, Question, Survey, SurveyIntake, SurveyWindow
from domain.errors import DomainError, ErrorCode
from domain.ids import new_survey_id
from integrations.postgres.cell_surveys import PostgresCellSurveys
from integrations.postgres.pool import pool_on_demand
from integrations.postgres.roles import SURVEYS
from tests.conftest import OwnerPool, SettingsFor

CELL = "eu"


def request(title: str = "Lunch", version: int = 2, survey_id: str = "", key: bytes = b"wrapped") -> InstallSurveyInput:
    question = Question(id="1", title="What?", min=1, max=1, order=0, options=(Option(id="1", text="Soup"),))
    survey = Survey(
        id=survey_id or new_survey_id(),
        title=title,
        questions=(question,),
        regions=("UK",),
        minimum_age=16,
        start_at=datetime(2000, 1, 1, tzinfo=UTC),  # the catalogue's; a cell gets its window apart
        version=version,
    )
    return InstallSurveyInput(cell=CELL, survey=survey, wrapped_ballot_key=key, wrapped_eligibility_key=key + b" other")


def window(survey_id: str, start_at: datetime, finish_at: datetime | None = None) -> SurveyWindow:
    return SurveyWindow(cell=CELL, survey_id=survey_id, start_at=start_at, finish_at=finish_at)


def clock() -> datetime:
    return datetime.now(UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def cell(settings_for: SettingsFor) -> AsyncIterator[PostgresCellSurveys]:
    settings = settings_for(SURVEYS)
    pool = await pool_on_demand(settings.cells[CELL].database, settings, SURVEYS)
    yield PostgresCellSurveys(pool)
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def database(owner_pool: OwnerPool) -> asyncpg.Pool:
    return await owner_pool(CELL)


async def windows(database: asyncpg.Pool, survey_id: str) -> list[tuple[datetime | None, datetime | None]]:
    rows = [
        await database.fetchrow(f"SELECT start_at, finish_at FROM {schema}.survey WHERE survey_id = $1", survey_id)
        for schema in ("voting", "identity")
    ]
    return [(row["start_at"], row["finish_at"]) for row in rows if row is not None]


async def test_an_installed_survey_is_not_open(cell: PostgresCellSurveys, database: asyncpg.Pool) -> None:
    wanted = request()
    await cell.install(wanted)
    assert await windows(database, wanted.survey.id) == [(None, None), (None, None)]
    found = await cell.get(wanted.survey.id)
    assert found == wanted.survey.model_copy(update={"start_at": None})
    assert await cell.get(new_survey_id()) is None


async def test_installing_again_keeps_keys_and_window(cell: PostgresCellSurveys, database: asyncpg.Pool) -> None:
    first = request()
    start = datetime.now(UTC)
    await cell.install(first)
    await cell.set_window(window(first.survey.id, start), clock)
    await asyncio.gather(
        *(cell.install(request(f"v{n}", n, first.survey.id, f"key {n}".encode())) for n in range(3, 13))
    )
    found = await cell.get(first.survey.id)
    assert found is not None
    assert (found.title, found.version, found.start_at) == ("v12", 12, start)
    keys = await database.fetchval("SELECT wrapped_ballot_key FROM voting.survey WHERE survey_id = $1", found.id)
    assert keys == b"wrapped"


async def test_an_older_definition_that_comes_late_changes_nothing(cell: PostgresCellSurveys) -> None:
    newer = request("newer", 5)
    await cell.install(newer)
    await cell.install(request("older", 4, newer.survey.id))
    found = await cell.get(newer.survey.id)
    assert found is not None
    assert found.title == "newer"


async def test_a_window_is_the_same_for_votes_and_for_admission(
    cell: PostgresCellSurveys, database: asyncpg.Pool
) -> None:
    wanted = request()
    await cell.install(wanted)
    start, finish = datetime.now(UTC), datetime.now(UTC) + timedelta(days=1)
    for _ in range(2):
        await cell.set_window(window(wanted.survey.id, start, finish), clock)
        assert await windows(database, wanted.survey.id) == [(start, finish)] * 2


async def test_an_end_holds_from_when_the_cell_has_it_and_never_moves_again(
    cell: PostgresCellSurveys, database: asyncpg.Pool
) -> None:
    wanted = request()
    await cell.install(wanted)
    start = datetime.now(UTC) - timedelta(hours=1)
    asked = datetime.now(UTC) - timedelta(minutes=1)  # the cell was away for a minute
    await cell.set_window(window(wanted.survey.id, start), clock)
    learned = datetime.now(UTC)
    await cell.set_window(window(wanted.survey.id, start, asked), clock)
    first = await windows(database, wanted.survey.id)
    assert first[0] == first[1]
    assert first[0][1] is not None
    assert first[0][1] >= learned - timedelta(milliseconds=50)
    await asyncio.gather(*(cell.set_window(window(wanted.survey.id, start, asked), clock) for _ in range(5)))
    assert await windows(database, wanted.survey.id) == first


async def test_an_end_is_told_by_the_clock_of_votes_and_not_by_the_databases(
    cell: PostgresCellSurveys, database: asyncpg.Pool
) -> None:
    wanted = request()
    await cell.install(wanted)

    def behind() -> datetime:
        return clock() - timedelta(hours=1)  # the database is an hour ahead of it

    start, asked = behind() - timedelta(hours=1), behind() - timedelta(minutes=1)
    await cell.set_window(window(wanted.survey.id, start), behind)
    learned = behind()
    await cell.set_window(window(wanted.survey.id, start, asked), behind)
    (_, end), _ = await windows(database, wanted.survey.id)
    assert end is not None
    assert learned <= end <= behind()
    await cell.set_window(window(wanted.survey.id, start, asked), behind)
    assert (await windows(database, wanted.survey.id))[0] == (start, end)


async def test_a_pause_is_of_its_first_instant_until_it_ends(cell: PostgresCellSurveys, database: asyncpg.Pool) -> None:
    wanted = request()
    await cell.install(wanted)

    async def pause(*, paused: bool) -> datetime | None:
        await cell.set_intake(SurveyIntake(cell=CELL, survey_id=wanted.survey.id, paused=paused))
        since: datetime | None = await database.fetchval(
            "SELECT paused_at FROM voting.survey WHERE survey_id = $1", wanted.survey.id
        )
        return since

    first = await pause(paused=True)
    assert first is not None
    assert await pause(paused=True) == first  # told again, as an activity may
    assert await pause(paused=False) is None
    again = await pause(paused=True)
    assert again is not None
    assert again > first


async def test_an_end_comes_after_the_vote_that_is_being_recorded(
    cell: PostgresCellSurveys, database: asyncpg.Pool
) -> None:
    wanted = request()
    await cell.install(wanted)
    start = datetime.now(UTC) - timedelta(hours=1)
    await cell.set_window(window(wanted.survey.id, start), clock)
    async with database.acquire() as recording:
        transaction = recording.transaction()
        await transaction.start()
        await recording.execute("SELECT FROM voting.survey WHERE survey_id = $1 FOR SHARE", wanted.survey.id)
        closing = asyncio.create_task(cell.set_window(window(wanted.survey.id, start, datetime.now(UTC)), clock))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))"
        async with asyncio.timeout(10):
            while not await database.fetchval(waits, recording.get_server_pid()):
                await asyncio.sleep(0.01)
        recorded_at = await recording.fetchval("SELECT clock_timestamp()")
        await transaction.commit()
    await closing
    assert (await windows(database, wanted.survey.id))[0][1] > recorded_at


async def test_a_busy_survey_is_corrected_and_closed_all_the_same(
    cell: PostgresCellSurveys, database: asyncpg.Pool
) -> None:
    wanted = request()
    await cell.install(wanted)
    start = datetime.now(UTC) - timedelta(hours=1)
    await cell.set_window(window(wanted.survey.id, start), clock)
    closed = asyncio.Event()

    async def record_votes(number: int) -> None:
        while not closed.is_set():
            async with database.acquire() as connection, connection.transaction():
                await connection.execute("SELECT FROM voting.survey WHERE survey_id = $1 FOR SHARE", wanted.survey.id)
                await connection.execute("SELECT pg_sleep($1)", 0.05 + number * 0.013)

    async with asyncio.TaskGroup() as recording:
        for number in range(4):  # never a moment without somebody's lock
            recording.create_task(record_votes(number))
        await asyncio.sleep(0.1)
        try:
            async with asyncio.timeout(5):
                await cell.install(request("corrected", 3, wanted.survey.id))
                await cell.set_window(window(wanted.survey.id, start, datetime.now(UTC)), clock)
        finally:
            closed.set()
    found = await cell.get(wanted.survey.id)
    assert found is not None
    assert found.title == "corrected"
    assert (await windows(database, wanted.survey.id))[0][1] is not None


async def test_a_window_needs_an_installed_survey(cell: PostgresCellSurveys) -> None:
    with pytest.raises(DomainError) as refused:
        await cell.set_window(window(new_survey_id(), datetime.now(UTC)), clock)
    assert refused.value.code is ErrorCode.SURVEY_NOT_FOUND


async def test_a_cell_that_is_away_is_said_to_be(settings_for: SettingsFor, unused_tcp_port: int) -> None:
    settings = settings_for(SURVEYS)
    nowhere = settings.cells[CELL].database.model_copy(update={"port": unused_tcp_port})
    pool = await pool_on_demand(nowhere, settings, SURVEYS)
    away = PostgresCellSurveys(pool)
    for call in (away.install(request()), away.set_window(window("s", datetime.now(UTC)), clock), away.get("s")):
        with pytest.raises(DomainError) as refused:
            await call
        assert refused.value.code is ErrorCode.LEDGER_UNAVAILABLE
    await pool.close()
