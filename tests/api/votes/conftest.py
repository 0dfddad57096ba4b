"""The votes service as it runs, served in the test's own process, with its stand-alone worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg
import httpx
import pytest_asyncio

from api.http.serving import serve
from api.votes.composition import compose
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import VOTING
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from tests.conftest import OwnerPool, SettingsFor
from tests.voting_world import Booth, OpenBooth, TokenDesk, open_booth, voting_keys
from workers import voting

CELL = "eu"
OTHER = "us"
# One voter casts hundreds of votes here: it is the constraint that must keep them out
UNLIMITED = {"vote-token": (100_000, 10)}
# A busy machine answers 202 after the usual second: who tests what is said then sets a time of their own
CONFIRMED_WITHIN_S = 5.0


@dataclass(frozen=True)
class Votes:
    """A running votes service."""

    client: httpx.AsyncClient
    url: str

    async def cast(self, booth: Booth, token: str, *options: str, key: str | None = None) -> httpx.Response:
        """Cast a whole ballot with these options of question 1."""
        headers = {"authorization": f"Bearer {token}"} | ({} if key is None else {"idempotency-key": key})
        body = {"answers": [{"question": "1", "options": list(options or ("1",)), "text": ""}]}
        return await self.client.post(f"/v1/surveys/{booth.survey.id}/vote", json=body, headers=headers)


@asynccontextmanager
async def votes_service(settings: Settings) -> AsyncIterator[Votes]:
    """Compose and serve the service until the end of the block."""
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    telemetry = make_telemetry(settings, "votes")
    async with AsyncExitStack() as lifetime:
        service = await compose(settings, lifetime, telemetry)
        serving = asyncio.create_task(
            serve(service, telemetry, stop, on_started=lambda host, port: listening.set_result(f"http://{host}:{port}"))
        )
        url = await listening
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=300)) as client:
            yield Votes(client, url)
        stop.set()
        await serving


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def votes_settings(settings_for: SettingsFor, kafka: None) -> AsyncIterator[Settings]:
    """Settings of the votes service, while a stand-alone worker of its build is the current one."""
    settings = settings_for(
        VOTING,
        build="votes-tests",
        public_url="http://votes.test",
        limits=UNLIMITED,
        vote_confirm_timeout_s=CONFIRMED_WITHIN_S,
    )
    telemetry, stopping = make_telemetry(settings, "voting"), asyncio.Event()
    async with AsyncExitStack() as lifetime:
        running = asyncio.create_task(voting.run(settings, lifetime, telemetry, stopping))
        async with asyncio.timeout(30):
            while not (await telemetry.readiness.examine()).ready:
                assert not running.done(), running.exception()
                await asyncio.sleep(0.05)
        yield settings
        stopping.set()
        await running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def votes(votes_settings: Settings, desk: TokenDesk) -> AsyncIterator[Votes]:
    assert desk  # its keys are there before the service reads them
    async with votes_service(votes_settings) as service:
        yield service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def second_votes(votes_settings: Settings, desk: TokenDesk) -> AsyncIterator[Votes]:
    """Another process of the same service, as far as everything behind it can tell."""
    assert desk
    async with votes_service(votes_settings) as service:
        yield service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def desk(votes_settings: Settings) -> TokenDesk:
    made = TokenDesk(voting_keys(votes_settings))
    await made.open()
    return made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def voting_pool(votes_settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(votes_settings.cells[CELL].database, votes_settings, VOTING)
    yield pool
    await pool.close()


@asynccontextmanager
async def booth_elsewhere(settings: Settings, owner_pool: OwnerPool) -> AsyncIterator[Booth]:
    """A booth in the other cell."""
    pool = await open_pool(settings.cells[OTHER].database, settings, VOTING, size=2)
    try:
        yield await open_booth(OTHER, pool, await owner_pool(OTHER), voting_keys(settings))
    finally:
        await pool.close()


@pytest_asyncio.fixture
async def booth_of(voting_pool: asyncpg.Pool, owner_pool: OwnerPool, votes_settings: Settings) -> OpenBooth:
    return partial(open_booth, CELL, voting_pool, await owner_pool(CELL), voting_keys(votes_settings))


@pytest_asyncio.fixture
async def booth(booth_of: OpenBooth) -> Booth:
    return await booth_of()
