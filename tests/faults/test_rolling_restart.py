"""Every process replaced, one after the other, under load: a client that repeats once sees nothing of it."""

import pytest

from comitia.stack.rolling import roll
from comitia.stack.state import CELLS
from tests.end_to_end.house import House
from tests.faults.load import Load
from tests.faults.steady import Steady

STREAMS = 6


@pytest.mark.long
async def test_a_rolling_restart_turns_nobody_away(house: House) -> None:
    survey = await house.open_survey(title="Goes on")
    steady = Steady(house, survey, [(await house.voter(cell))[1] for cell in CELLS for _ in range(20)], STREAMS)
    before, said = house.supervisor.pids, list[str]()
    async with steady.running():
        await steady.more_votes(20)
        await steady.watched(1)
        await roll(house.supervisor, say=said.append)
        await steady.more_votes(20)
        await steady.watched(len(steady.acknowledged))

    assert not steady.failures, (steady.failures, steady.repeated)
    after = house.supervisor.pids
    assert after.keys() == before.keys()
    assert not {*before.values()} & {*after.values()}
    ended = [line for line in said if "ended" in line]
    assert len(ended) == len(before)
    assert all(line.endswith("with status 0") for line in ended), ended
    assert all(watcher.connections == 2 for watcher in steady.watchers), steady.watchers
    assert all(0.1 <= retry_s <= 2 for watcher in steady.watchers for retry_s in watcher.retries)
    assert {"votes", "results", "surveys", "eligibility"} <= steady.answered.keys()
    await steady.all_recorded_once()


async def test_what_a_stopping_process_cannot_record_is_recorded_by_the_worker(house: House) -> None:
    survey = await house.open_survey(title="Left behind")
    load = Load.of(house, survey, 1)
    process = house.supervisor.processes["api-votes"]
    async with house.locked_ledger(survey, "eu"):
        await load.run()
        assert load.accepted
        await process.stop()
        assert await process.wait() == 0  # by itself, while nothing can be recorded
        assert not await house.participations(survey)
    await load.confirmed()  # by the stand-alone worker, from what Temporal has
    await house.supervisor.start("api-votes")
    await house.settled(survey, 1)
