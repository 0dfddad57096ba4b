import asyncio
import re
from pathlib import Path
from typing import cast

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

import integrations.postgres
from integrations.postgres.pool import NotDurableError, durability, open_pool
from integrations.postgres.roles import CERTIFICATION, VOTING
from integrations.telemetry.waiting_metrics import WaitingMetrics
from tests.conftest import SettingsFor


async def forgetful(connection: asyncpg.Connection) -> None:
    await connection.execute("SET synchronous_commit = off")


async def test_a_server_that_acknowledges_what_a_crash_can_undo_is_refused(settings_for: SettingsFor) -> None:
    settings = settings_for(VOTING)
    with pytest.raises(NotDurableError, match="synchronous_commit"):
        await open_pool(settings.cells["eu"].database, settings, VOTING, size=1, setup=forgetful)


class Server:
    """Answers `SHOW` as one that is durable, but for one setting."""

    def __init__(self, setting: str, value: str) -> None:
        self._shown = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", setting: value}

    async def fetchval(self, statement: str) -> str:
        return self._shown[statement.removeprefix("SHOW ")]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("synchronous_commit", "local"),
        ("synchronous_commit", "remote_write"),
    ],
)
async def test_no_setting_may_be_less_than_durable(setting: str, value: str) -> None:
    with pytest.raises(NotDurableError, match=f"'{setting}': '{value}'"):
        await durability(cast("asyncpg.Pool", Server(setting, value)))


async def test_no_role_changes_for_others_what_a_commit_is_worth(settings_for: SettingsFor) -> None:
    settings = settings_for(CERTIFICATION)
    pool = await open_pool(settings.cells["eu"].database, settings, CERTIFICATION, size=2)
    async with pool.acquire() as taken_over:
        await taken_over.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
        try:
            with pytest.raises(NotDurableError, match="synchronous_commit"):
                await pool.fetchval("SELECT 1")
        finally:
            await taken_over.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")
    assert await pool.fetchval("SHOW synchronous_commit") == "on"
    await pool.close()


# What would be there still when somebody else has the connection: a pool takes it back as it is
_STAYS = re.compile(
    r"""["';]\s*SET\s+(?!LOCAL|TRANSACTION)|set_config\([^)]*false\)|LISTEN\s+[a-z]|pg_(?:try_)?advisory_lock"""
    r"""|WITH\s+HOLD|CREATE\s+TEMP|["';]\s*PREPARE\s"""
)

_OWN = frozenset({"migrate.py", "replication.py"})  # have connections of their own, of no pool


def test_no_statement_leaves_anything_in_a_session() -> None:
    folder = Path(integrations.postgres.__path__[0])
    sources = [path for path in sorted(folder.glob("*.py")) if path.name not in _OWN]
    assert len(sources) > 40
    assert [path.name for path in sources if _STAYS.search(path.read_text())] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SET statement_timeout = '2s'",
        "SET SESSION lock_timeout TO '2s'",
        "SELECT set_config('role', 'x', false)",
        "LISTEN changes",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "DECLARE rows CURSOR WITH HOLD FOR SELECT 1",
        "CREATE TEMP TABLE rows (n integer)",
    ],
)
def test_one_that_does_is_found(statement: str) -> None:
    assert _STAYS.search(f'_STATEMENT = "{statement}"')


async def fail_in_a_transaction(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        await connection.fetchval("SELECT 1 / 0")


async def test_a_connection_comes_back_without_the_transaction_of_whoever_had_it(settings_for: SettingsFor) -> None:
    settings = settings_for(VOTING)
    pool = await open_pool(settings.cells["eu"].database, settings, VOTING, size=1)
    try:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await fail_in_a_transaction(pool)
        assert await pool.fetchval("SHOW lock_timeout") == "0"
        assert await pool.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")
    finally:
        await pool.close()


async def test_who_waits_for_a_connection_is_counted_as_long_as_they_wait(settings_for: SettingsFor) -> None:
    settings, registry = settings_for(VOTING), CollectorRegistry()
    metrics = WaitingMetrics(registry)

    def counted(name: str) -> float | None:
        return registry.get_sample_value(name, {"database": "eu/comitia_voting"})

    address = settings.cells["eu"].database
    watch = metrics.watch_pool("eu", VOTING)
    pools = [await open_pool(address, settings, VOTING, size=1, watch=watch) for _ in range(2)]
    try:
        async with asyncio.timeout(30), pools[0].acquire():
            asking = [asyncio.create_task(pools[0].fetchval("SELECT 1")) for _ in range(3)]
            while counted("db_pool_waiting") != 3:
                await asyncio.sleep(0.01)
            assert counted("db_pool_connections") == 2
            assert counted("db_pool_connections_in_use") == 1
            asking[0].cancel()
            while counted("db_pool_waiting") != 2:
                await asyncio.sleep(0.01)
        assert await asyncio.gather(*asking[1:]) == [1, 1]
        assert counted("db_pool_waiting") == 0
        assert counted("db_pool_connections_in_use") == 0
    finally:
        for pool in pools:
            await pool.close()
    assert counted("db_pool_connections") == 0
