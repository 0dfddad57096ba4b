from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio

from integrations.keys.file_kms import FileKms
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import VOTING
from tests.conftest import OwnerPool, SettingsFor
from tests.voting_world import Booth, open_booth, voting_keys

OpenBooth = Callable[..., Awaitable[Booth]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def voting_pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(VOTING)
    pool = await open_pool(settings.cells["eu"].database, settings, VOTING)
    yield pool
    await pool.close()


@pytest.fixture(scope="session")
def keys(settings_for: SettingsFor) -> FileKms:
    """Of every process of this run: whoever destroys one makes it first."""
    return voting_keys(settings_for(VOTING))


@pytest.fixture
def booth_of(voting_pool: asyncpg.Pool, owner_pool: OwnerPool, keys: FileKms) -> OpenBooth:
    """`await booth_of(survey=..., start_at=..., finish_at=...)`: an installed survey in cell `eu`."""

    async def make(**fields: object) -> Booth:
        return await open_booth("eu", voting_pool, await owner_pool("eu"), keys, **fields)

    return make


@pytest_asyncio.fixture
async def booth(booth_of: OpenBooth) -> Booth:
    return await booth_of()
