from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from domain.ports import KeyManagement
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import DOCUMENT, INBOX, KEK_PERSONAL, LOOKUP
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY, STAFFING, VOTING
from tests.conftest import OwnerPool, SettingsFor
from tests.voting_world import Booth, OpenBooth, open_booth, voting_keys


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def voting_pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(VOTING)
    pool = await open_pool(settings.cells["eu"].database, settings, VOTING)
    yield pool
    await pool.close()


@pytest.fixture(scope="session")
def keys(settings_for: SettingsFor) -> KeyManagement:
    """Of every process of this run: whoever destroys one makes it first."""
    return voting_keys(settings_for(VOTING))


@asynccontextmanager
async def pools_of(settings_for: SettingsFor, role: str) -> AsyncIterator[dict[str, asyncpg.Pool]]:
    """Connections of a role to both cells, enough for many at once."""
    settings = settings_for(role)
    async with AsyncExitStack() as opened:
        pools = {}
        for cell in ("eu", "us"):
            pools[cell] = await open_pool(settings.cells[cell].database, settings, role)
            opened.push_async_callback(pools[cell].close)
        yield pools


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def identity_pools(settings_for: SettingsFor) -> AsyncIterator[dict[str, asyncpg.Pool]]:
    async with pools_of(settings_for, IDENTITY) as pools:
        yield pools


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def staffing_pools(settings_for: SettingsFor) -> AsyncIterator[dict[str, asyncpg.Pool]]:
    """Of whoever makes members of staff and machine clients."""
    async with pools_of(settings_for, STAFFING) as pools:
        yield pools


@pytest.fixture
def staffing_pool(staffing_pools: dict[str, asyncpg.Pool]) -> asyncpg.Pool:
    return staffing_pools["eu"]


@pytest.fixture
def identity_pool(identity_pools: dict[str, asyncpg.Pool]) -> asyncpg.Pool:
    return identity_pools["eu"]


@pytest_asyncio.fixture
async def closed_pool(settings_for: SettingsFor) -> asyncpg.Pool:
    """What a database that is away looks like."""
    settings = settings_for(IDENTITY)
    pool = await open_pool(settings.cells["eu"].database, settings, IDENTITY, size=1)
    await pool.close()
    return pool


@pytest.fixture
def identity_keys(tmp_path: Path) -> FileKms:
    return FileKms(tmp_path / "keys", frozenset({DOCUMENT, INBOX, KEK_PERSONAL, LOOKUP}))


@pytest_asyncio.fixture
async def booth_of(voting_pool: asyncpg.Pool, owner_pool: OwnerPool, keys: KeyManagement) -> OpenBooth:
    """`await booth_of(survey=..., start_at=..., finish_at=...)`: an installed survey in cell `eu`."""
    return partial(open_booth, "eu", voting_pool, await owner_pool("eu"), keys)


@pytest_asyncio.fixture
async def booth(booth_of: OpenBooth) -> Booth:
    return await booth_of()
