"""Cells of their own for tests of the tally: a fresh database, a fresh topic, a Redis database that may be emptied."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import pytest_asyncio
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis

from comitia.stack import postgres
from comitia.stack.state import StackState
from domain.contracts.surveys import Option, Question, Survey
from domain.contracts.voting import BatchSummary, RegionCounts
from domain.ids import new_survey_id
from integrations.addresses import DatabaseAddress, RedisAddress
from integrations.kafka.summaries import SummaryProducer
from integrations.postgres.migrate import Tree, migrate
from integrations.postgres.provision import provision
from integrations.postgres.roles import CELL_ROLES, OWNER, TALLY
from integrations.redis.connection import open_redis
from integrations.redis.tally_reader import TallyReader
from integrations.settings import Environment, Settings
from integrations.telemetry.metrics import TallyMetrics
from workers.tally import CellTally

REDIS_DATABASES = {"one": 14, "two": 15}  # nobody else's: they are emptied
DEADLINE_S = 15.0


async def until(condition: Callable[[], Awaitable[bool]], what: str, within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)


def make_survey(**fields: object) -> Survey:
    options = tuple(Option(id=str(number), text=f"Option {number}", order=number) for number in range(1, 4))
    question = Question(id="1", title="Which?", min=1, max=2, order=0, options=options)
    return Survey(**{"id": new_survey_id(), "title": "A survey", "questions": (question,), **fields})


@dataclass
class TallyCell:
    """One cell with a ledger to write into and a topic to announce on."""

    name: str
    settings: Settings
    owner: asyncpg.Pool
    redis: Redis
    producer: SummaryProducer
    gateway: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    number: int = 0
    spans: TracerProvider = field(default_factory=TracerProvider)
    expected: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)

    async def install(self, survey: Survey) -> None:
        await self.owner.execute(
            "INSERT INTO voting.survey (survey_id, definition, wrapped_ballot_key, start_at, finish_at) "
            "VALUES ($1, $2::jsonb, '\\x00', $3, $4)",
            survey.id,
            survey.model_dump_json(),
            survey.start_at,
            survey.finish_at,
        )

    async def record(self, survey_id: str, regions: dict[str, dict[str, int]], ballots: int = 1) -> BatchSummary:
        """Write a batch into the ledger as `record_votes` does, and return what would be announced."""
        self.number += 1
        summary = BatchSummary(
            cell=self.name,
            gateway_id=self.gateway,
            number=self.number,
            survey_id=survey_id,
            regions=tuple(
                RegionCounts(region=region, ballots=ballots, options=options) for region, options in regions.items()
            ),
        )
        async with self.owner.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO voting.gateway (gateway_id, build) VALUES ($1, 'test') ON CONFLICT DO NOTHING",
                self.gateway,
            )
            await connection.execute(
                "INSERT INTO voting.batch (gateway_id, number, input_digest, outcomes, participations_root, "
                "ballots_root, accepted_at) VALUES ($1, $2, $3, $4, $3, $3, now())",
                self.gateway,
                self.number,
                bytes(32),
                bytes(ballots),
            )
            for region in summary.regions:
                await connection.execute(
                    "INSERT INTO voting.batch_count (gateway_id, number, survey_id, region, ballots, options) "
                    "SELECT $1, $2, $3, $4, $5, jsonb_object_agg(o, v) FROM unnest($6::text[], $7::int[]) AS x (o, v)",
                    self.gateway,
                    self.number,
                    survey_id,
                    region.region,
                    region.ballots,
                    list(region.options),
                    list(region.options.values()),
                )
        counts = self.expected.setdefault(survey_id, Counter())
        for region in summary.regions:
            counts[region.region, ""] += region.ballots
            for option, votes in region.options.items():
                counts[region.region, option] += votes
        return summary

    async def vote(self, survey_id: str, option: str = "1", region: str = "north") -> BatchSummary:
        """Record and announce a batch of one."""
        summary = await self.record(survey_id, {region: {option: 1}})
        await self.producer.publish((summary,))
        return summary

    async def counts(self, survey_id: str) -> dict[tuple[str, str], int] | None:
        view = await TallyReader(self.redis, self.name).view(survey_id, exact=True, installed_epoch=1)
        return None if view.totals is None else view.totals.counts

    async def equals_ledger(self, survey_id: str) -> bool:
        return await self.counts(survey_id) == dict(self.expected.get(survey_id, Counter()))

    async def tallied(self, *survey_ids: str) -> None:
        """Wait until the tally says what the ledger says."""
        for survey_id in survey_ids:
            await until(partial(self.equals_ledger, survey_id), "tally equals ledger")

    async def watermarked(self) -> None:
        """Wait until the cell has a watermark."""

        async def found() -> bool:
            view = await TallyReader(self.redis, self.name).view("s_none", exact=True, installed_epoch=0)
            return view.watermark is not None

        await until(found, "a first watermark")

    @asynccontextmanager
    async def folding(self) -> AsyncIterator[CellTally]:
        """Run a tally worker of this cell."""
        stop = asyncio.Event()
        tally = CellTally(self.settings, self.name, TallyMetrics(CollectorRegistry()), self.spans.get_tracer("test"))
        task = asyncio.create_task(tally.run(stop))
        try:
            yield tally
        finally:
            stop.set()
            await task


async def _database(servers: StackState, name: str) -> DatabaseAddress:
    address = servers.database("eu").model_copy(update={"name": name})
    administrator = postgres.read_administrator(postgres.data_folder(servers.folder, servers.stack_id))
    passwords = {role: servers.password(role) for role in (OWNER, *CELL_ROLES)}
    await provision(address, administrator, {name: (OWNER, *CELL_ROLES)}, passwords)
    await asyncio.to_thread(migrate, address, SecretStr(servers.password(OWNER)), Tree.CELL)
    return address


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tally_databases(servers: StackState) -> dict[str, DatabaseAddress]:
    run = secrets.token_hex(4)
    return {name: await _database(servers, f"tally_{name}_{run}") for name in REDIS_DATABASES}


@pytest_asyncio.fixture(loop_scope="session")
async def make_cells(
    servers: StackState, tally_databases: dict[str, DatabaseAddress], kafka: None
) -> AsyncIterator[Callable[[], Awaitable[list[TallyCell]]]]:
    """`first, second = await make_cells()`: two empty cells, with settings that name both."""
    async with AsyncExitStack() as opened:

        async def make() -> list[TallyCell]:
            base = servers.settings_for(TALLY, environment=Environment.TEST)
            pools = []
            cells = {}
            for key, (address, database) in zip(
                REDIS_DATABASES, zip(tally_databases.values(), REDIS_DATABASES.values(), strict=True), strict=True
            ):
                pool = await asyncpg.create_pool(
                    host=address.host,
                    port=address.port,
                    database=address.name,
                    user=OWNER,
                    password=servers.password(OWNER),
                    ssl="disable",
                    min_size=1,
                    max_size=4,
                )
                opened.push_async_callback(pool.close)
                pools.append(pool)
                cell = base.cells["eu"]
                name = f"t{key[1]}{secrets.token_hex(4)}"
                redis_address = RedisAddress(host=cell.redis.host, port=cell.redis.port, database=database)
                cells[name] = cell.model_copy(update={"database": address, "redis": redis_address})
            settings = base.model_copy(update={"cells": cells})
            made = []
            for (name, addresses), pool in zip(cells.items(), pools, strict=True):
                redis = open_redis(addresses.redis)
                opened.push_async_callback(redis.aclose)
                await redis.flushdb()
                await pool.execute("TRUNCATE tally.epoch, voting.survey")
                producer = SummaryProducer(addresses.kafka, name)
                opened.push_async_callback(producer.close)
                made.append(TallyCell(name, settings, pool, redis, producer))
            return made

        yield make


@pytest_asyncio.fixture(loop_scope="session")
async def tally_cell(make_cells: Callable[[], Awaitable[list[TallyCell]]]) -> TallyCell:
    """One empty cell."""
    return (await make_cells())[0]
