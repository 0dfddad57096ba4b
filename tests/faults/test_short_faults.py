"""Everything broken once under a load of real ballots: nothing lost, nothing twice, and all goes on by itself."""

import pytest

from tests.faults.closings import WHO_CERTIFIES_KILLED
from tests.faults.experiment import Fault, Load, run_experiment
from tests.faults.kills import EMPTY_REDIS, KILL_BEFORE_COMMIT, kill
from tests.faults.ledgers import CELL_AWAY
from tests.faults.messages import REPEATED
from tests.faults.overlaps import together
from tests.faults.stage import Stage
from tests.faults.voters import TWINS

SEED = 1
SHORT = Load(rate=25, at_once=40, before_s=0.5, after_s=0.5)
KILLS = [
    *(kill(f"api-{service}") for service in ("votes", "eligibility", "streams")),
    *(kill(f"workers-{area}") for area in ("voting", "platform", "tally")),
    *(kill(server) for server in ("temporal", "postgres", "kafka", "redis")),
    CELL_AWAY,
    EMPTY_REDIS,
    KILL_BEFORE_COMMIT,
]
SLOW = [
    together(kill("api-surveys"), kill("api-results")),  # no vote needs them: the two cost one survey
    WHO_CERTIFIES_KILLED,
]


@pytest.mark.parametrize(
    "fault",
    [
        *KILLS,
        REPEATED,
        *(pytest.param(fault, marks=pytest.mark.long) for fault in SLOW),
    ],
    ids=lambda fault: fault.name,
)
async def test_a_fault_loses_nothing_and_counts_nothing_twice(stage: Stage, fault: Fault) -> None:
    row = await run_experiment(stage, fault, seed=SEED, load=SHORT)

    assert row.holds, row


async def test_two_processes_with_the_same_voter_at_once_record_one_vote(stage: Stage) -> None:
    async with stage.second_door():
        row = await run_experiment(stage, TWINS, seed=SEED, load=SHORT)

    assert row.holds, row
    assert row.refused >= row.verdict.acknowledged // 2  # of two requests of one voter, one is refused
