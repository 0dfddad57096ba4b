"""`kill -9` of a server in the middle of load: what was acknowledged was on a disk, and all goes on by itself."""

import asyncio

import pytest

from comitia.stack.process import StartError
from tests.end_to_end.house import House, eventually
from tests.faults.load import Load

VOTERS = 120


async def start_again(house: House, server: str) -> None:
    """Start a killed server; PostgreSQL's orphans may hold its memory for a moment longer."""

    async def started() -> bool:
        try:
            await house.servers.start(server)
        except StartError:
            return False
        return True

    await eventually(started, what=f"{server} started again")


@pytest.mark.parametrize("server", ["temporal", "postgres", "kafka"])
async def test_a_crashed_server_forgets_nothing_that_was_acknowledged(house: House, server: str) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, VOTERS, ("eu", "us"))
    voting = asyncio.create_task(load.run())
    await load.acknowledge(VOTERS // 4)

    await house.servers.processes[server].kill()
    promised = set(load.acknowledged)
    await start_again(house, server)
    await voting

    assert len(promised) < VOTERS  # it was in the middle
    assert not load.interrupted  # our own processes stayed and had an answer for everyone
    await load.insist()
    await load.confirmed()
    await house.settled(survey, VOTERS)


async def test_what_only_temporal_has_survives_a_crash_of_temporal(house: House) -> None:
    survey = await house.open_survey()
    load = Load.of(house, survey, 20)
    async with house.locked_ledger(survey, "eu"):
        voting = asyncio.create_task(load.run())
        await load.acknowledge(1)
        await house.servers.processes["temporal"].kill()
        await voting
        accepted = load.accepted
        assert accepted
        assert await house.participations(survey) == set()
        await start_again(house, "temporal")

    await load.confirmed()
    assert accepted == [token for token in accepted if token in load.acknowledged]
    await load.insist()
    await house.settled(survey, 20)
