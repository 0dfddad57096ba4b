"""Every process killed once under a load of real ballots: nothing lost, nothing twice, and all goes on by itself."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.end_to_end.house import House
from tests.faults.experiment import Fault, Load, run_experiment
from tests.faults.kills import EMPTY_REDIS, kill
from tests.faults.stage import Stage

SEED = 1
SHORT = Load(rate=25, at_once=40, before_s=0.5, after_s=0.5)
KILLS = [
    *(kill(f"api-{service}") for service in ("votes", "eligibility", "streams")),
    *(kill(f"workers-{area}") for area in ("voting", "platform", "tally")),
    *(kill(server) for server in ("temporal", "postgres", "kafka", "redis")),
    EMPTY_REDIS,
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(house: House) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="comitia-notes-") as folder:
        yield await Stage.of(house, Path(folder), voters=800, seed=SEED)


@pytest.mark.parametrize("fault", KILLS, ids=lambda fault: fault.name)
async def test_a_kill_loses_nothing_and_counts_nothing_twice(stage: Stage, fault: Fault) -> None:
    row = await run_experiment(stage, fault, seed=SEED, load=SHORT)

    assert row.holds, row
