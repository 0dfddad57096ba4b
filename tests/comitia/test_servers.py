from collections.abc import Awaitable, Callable

import asyncpg

from comitia.stack.state import StackState
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import VOTING
from integrations.settings import Settings


async def test_a_service_connects_as_its_own_role(settings_for: Callable[..., Settings]) -> None:
    settings = settings_for(VOTING)
    pool = await open_pool(settings.cells["eu"].database, settings, VOTING)
    try:
        assert await pool.fetchval("SELECT current_user") == VOTING
    finally:
        await pool.close()


async def test_every_database_is_migrated(
    servers: StackState, owner_pool: Callable[[str], Awaitable[asyncpg.Pool]]
) -> None:
    for name in (*servers.settings["cells"], "catalogue"):
        pool = await owner_pool(name)
        assert await pool.fetchval("SELECT current_database()") == name
