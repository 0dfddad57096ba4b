"""The tally through outages: it goes on by itself, says so once, and misses nothing."""

import dataclasses
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from comitia.stack import redis as redis_server
from comitia.stack.forwarder import Forwarder
from comitia.stack.ports import free_port
from comitia.stack.process import ManagedProcess
from domain.errors import DomainError
from integrations.addresses import RedisAddress
from integrations.redis.connection import open_redis
from integrations.settings import CellSettings, Settings
from tests.workers.tally_cells import TallyCell, make_survey, until


@dataclasses.dataclass
class OwnRedis:
    """A Redis of the test's own."""

    process: ManagedProcess
    port: int

    async def start(self) -> None:
        await self.process.start()
        await redis_server.ready(self.process, self.port)


def with_cell(cell: TallyCell, addresses: CellSettings) -> TallyCell:
    settings = cell.settings.model_copy(update={"cells": {cell.name: addresses}})
    return dataclasses.replace(cell, settings=settings, redis=open_redis(addresses.redis), expected={})


@pytest_asyncio.fixture(loop_scope="session")
async def own_redis(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    own = OwnRedis(redis_server.process(tmp_path, tmp_path / "log", port), port)
    await own.start()
    yield own
    await own.process.stop()


@pytest.mark.parametrize("keeps_its_data", [True, False])
async def test_redis_away(tally_cell: TallyCell, own_redis: OwnRedis, tmp_path: Path, *, keeps_its_data: bool) -> None:
    addresses = tally_cell.settings.cells[tally_cell.name]
    redis_address = RedisAddress(host="127.0.0.1", port=own_redis.port)
    cell = with_cell(tally_cell, addresses.model_copy(update={"redis": redis_address}))
    survey = make_survey()
    await cell.install(survey)

    async def equal() -> bool:
        try:
            return await cell.equals_ledger(survey.id)
        except DomainError:
            return False

    with capture_logs() as logs:
        async with cell.folding() as tally:
            await cell.vote(survey.id)
            await cell.tallied(survey.id)
            await own_redis.process.stop()

            async def not_ready() -> bool:
                return not await tally.check()

            async def interrupted() -> bool:
                return any(entry["event"] == "tally_interrupted" for entry in logs)

            await cell.vote(survey.id, "2")
            await until(not_ready, "the worker says that it cannot work")
            await until(interrupted, "it has met the vote that it cannot count")
            if not keeps_its_data:
                for file in (tmp_path / "appendonlydir").iterdir():
                    file.unlink()
                (tmp_path / "appendonlydir").rmdir()
            await own_redis.start()
            await until(equal, "tally equals ledger")
            await cell.vote(survey.id, "3")
            await until(equal, "tally equals ledger")
            await until(tally.check, "the worker says that it works again")
    await cell.redis.aclose()
    events = [entry["event"] for entry in logs]
    assert (events.count("tally_interrupted"), events.count("tally_resumed")) == (1, 1)


async def test_a_broker_that_is_away_at_the_start(tally_cell: TallyCell) -> None:
    addresses = tally_cell.settings.cells[tally_cell.name]
    away = with_cell(tally_cell, addresses.model_copy(update={"kafka": addresses.kafka.model_copy(update={"port": 1})}))
    with capture_logs() as logs:
        async with away.folding() as tally:

            async def interrupted() -> bool:
                return any(entry["event"] == "tally_interrupted" for entry in logs)

            await until(interrupted, "it says so")
            assert not await tally.check()
            assert tally.watermark_age_s() < 0
    await away.redis.aclose()


async def test_what_was_recorded_while_the_broker_was_away_is_shown_before_anybody_announces_it(
    tally_cell: TallyCell,
) -> None:
    kafka = tally_cell.settings.cells[tally_cell.name].kafka
    opened = datetime.now(UTC) - timedelta(hours=1)
    here, before, long_over = (
        make_survey(start_at=opened),
        make_survey(start_at=opened),
        make_survey(start_at=opened - timedelta(days=3), finish_at=opened - timedelta(days=2)),
    )
    for survey in (here, before, long_over):
        await tally_cell.install(survey)
    async with tally_cell.folding():
        await tally_cell.vote(here.id)
        await tally_cell.tallied(here.id, before.id, long_over.id)
        await tally_cell.watermarked()  # so that where it stopped is noted
    epochs = {survey.id: await _epoch(tally_cell, survey.id) for survey in (before, long_over)}
    forwarder = Forwarder(free_port(()), lambda: kafka)
    away = dataclasses.replace(tally_cell, settings=_with_bootstrap(tally_cell, forwarder.address.port))
    with capture_logs() as logs:
        async with away.folding():

            async def interrupted() -> bool:
                return any(entry["event"] == "tally_interrupted" for entry in logs)

            await until(interrupted, "the broker is missed")
            await tally_cell.record(here.id, {"north": {"2": 1}})
            async with forwarder:
                await tally_cell.tallied(here.id)
    assert await _epoch(tally_cell, before.id) == epochs[before.id] + 1
    assert await _epoch(tally_cell, long_over.id) == epochs[long_over.id], "nobody votes in it any more"


def _with_bootstrap(cell: TallyCell, port: int) -> Settings:
    """Return settings in which the broker is first asked for at another port; it names its own address then."""
    addresses = cell.settings.cells[cell.name]
    kafka = addresses.kafka.model_copy(update={"port": port})
    cells = {**cell.settings.cells, cell.name: addresses.model_copy(update={"kafka": kafka})}
    return cell.settings.model_copy(update={"cells": cells})


async def _epoch(cell: TallyCell, survey_id: str) -> int:
    epoch: int = await cell.owner.fetchval("SELECT installed FROM tally.epoch WHERE survey_id = $1", survey_id)
    return epoch
