import asyncpg
import pytest

from integrations.postgres.pool import NotDurableError, open_pool
from integrations.postgres.roles import VOTING
from tests.conftest import SettingsFor


async def forgetful(connection: asyncpg.Connection) -> None:
    await connection.execute("SET synchronous_commit = off")


async def test_a_server_that_acknowledges_what_a_crash_can_undo_is_refused(settings_for: SettingsFor) -> None:
    settings = settings_for(VOTING)
    with pytest.raises(NotDurableError, match="synchronous_commit"):
        await open_pool(settings.cells["eu"].database, settings, VOTING, size=1, setup=forgetful)
