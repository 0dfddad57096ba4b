"""The suite checks itself: five bugs that must never be in our source are planted, and each is seen by what it does."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from integrations.postgres.roles import VOTING
from tests.faults.checking import Verdict
from tests.faults.experiment import Fault, Load, run_experiment
from tests.faults.kills import KILL_BEFORE_COMMIT
from tests.faults.ledgers import HELD_LEDGERS
from tests.faults.messages import REPEATED
from tests.faults.overlaps import together
from tests.faults.planted import (
    ANSWER_FIRST,
    COUNT_AGAIN,
    GIVE_UP,
    NO_CONFLICT,
    planted,
    without_constraint,
)
from tests.faults.stage import Stage
from tests.faults.voters import AGAIN

SEED = 2
# Little patience: nothing recovers from a bug
BROKEN = Load(rate=20, at_once=40, before_s=0.5, after_s=0.5, recover_within_s=8, patience_s=8)
AT_ONCE = replace(BROKEN, recover_within_s=3)  # where no process was killed, there is nothing to recover from either
CROWDED = replace(BROKEN, rate=80, at_once=160)
_LOOKS = 4
API, WORKER, TALLY = "api-votes", "workers-voting", "workers-tally"


async def verdict_of(stage: Stage, fault: Fault, load: Load = AT_ONCE) -> Verdict:
    return (await run_experiment(stage, fault, seed=SEED, load=load)).verdict


@pytest.mark.long
async def test_without_a_bug_the_same_faults_are_borne(stage: Stage) -> None:
    every = together(AGAIN, REPEATED, HELD_LEDGERS, KILL_BEFORE_COMMIT)
    # only the patience differs: whoever loses it is unserved, by which no bug is told
    row = await run_experiment(stage, every, seed=SEED, load=replace(BROKEN, patience_s=60, recover_within_s=60))
    assert row.verdict.holds, row
    assert row.verdict.acknowledged


async def test_a_ledger_without_its_constraint_is_seen(stage: Stage, tmp_path: Path) -> None:
    async with without_constraint(stage, "eu"), planted(stage, tmp_path, [API, WORKER], NO_CONFLICT):
        found = await verdict_of(stage, AGAIN)  # two at once may be of one batch, which takes one of them
    assert found.double
    assert not found.missing


async def test_an_answer_before_the_commit_is_seen(stage: Stage, tmp_path: Path) -> None:
    async with planted(stage, tmp_path, [API], ANSWER_FIRST):
        found = await verdict_of(stage, KILL_BEFORE_COMMIT, BROKEN)
    # lost, or recorded by others after all, beside a second answer to whoever asked again
    assert found.missing or found.double


async def test_a_tally_that_counts_again_is_seen(stage: Stage, tmp_path: Path) -> None:
    async with planted(stage, tmp_path, [TALLY], COUNT_AGAIN):
        found = await verdict_of(stage, REPEATED)
    assert found.difference
    assert (found.missing, found.double, found.wrong) == (0, 0, 0)


async def test_a_commit_that_is_given_up_is_seen(stage: Stage, tmp_path: Path) -> None:
    async with planted(stage, tmp_path, [API, WORKER], GIVE_UP):
        # Whoever asks in time hears that it came to nothing and votes again, so a look may find nobody missing
        found = [await verdict_of(stage, HELD_LEDGERS, CROWDED)]
        while not found[-1].missing and len(found) < _LOOKS:
            found.append(await verdict_of(stage, HELD_LEDGERS, CROWDED))
    assert found[-1].missing, found


async def test_a_ballot_that_nobody_cast_is_seen(stage: Stage) -> None:
    found = await verdict_of(stage, Fault("stuffed/ballot", stuffed_ballot))
    assert (found.double, found.missing) == (1, 0)
    assert found.wrong
    assert found.difference


async def test_a_whole_vote_of_nobody_is_seen(stage: Stage) -> None:
    found = await verdict_of(stage, Fault("stuffed/vote", stuffed_vote))
    assert (found.double, found.missing) == (0, 0)
    assert found.wrong


@asynccontextmanager
async def as_voting_role(stage: Stage) -> AsyncIterator[asyncpg.Connection]:
    """A connection of whoever got hold of the password of a process that records votes."""
    address = stage.house.state.database("eu")
    connection = await asyncpg.connect(
        host=address.host,
        port=address.port,
        database=address.name,
        user=VOTING,
        password=stage.house.state.password(VOTING),
        ssl="disable",
    )
    try:
        yield connection
    finally:
        await connection.close()


async def newest_ballot(connection: asyncpg.Connection) -> asyncpg.Record:
    """Return a ballot of the survey that is voted in now, with the count of its batch where that is of one ballot."""
    found = await connection.fetchrow(
        "SELECT ballot.survey_id, ballot.gateway_id, ballot.number, ballot.sealed, counted.region, counted.options "
        "FROM voting.batch JOIN voting.ballot USING (gateway_id, number) "
        "JOIN voting.batch_count AS counted USING (gateway_id, number, survey_id) "
        "WHERE counted.ballots = 1 ORDER BY batch.recorded_at DESC LIMIT 1"
    )
    assert found is not None
    return found


@asynccontextmanager
async def stuffed_ballot(stage: Stage) -> AsyncIterator[None]:
    """Put a copy of somebody's sealed ballot beside it."""
    async with as_voting_role(stage) as connection:
        one = await newest_ballot(connection)
        await connection.execute(
            "INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed) "
            "VALUES ($1, gen_random_uuid(), $2, $3, $4)",
            *(one[name] for name in ("survey_id", "gateway_id", "number", "sealed")),
        )
    yield


@asynccontextmanager
async def stuffed_vote(stage: Stage) -> AsyncIterator[None]:
    """Put in a vote of nobody with everything that belongs to one: only its evidence cannot be made up."""
    async with as_voting_role(stage) as connection, connection.transaction():
        one = await newest_ballot(connection)
        await connection.execute(
            "INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac) "
            "VALUES ($1, $2, $3, $4, '')",
            one["survey_id"],
            secrets.token_bytes(32),
            one["region"],
            secrets.token_bytes(64),
        )
        gateway = secrets.token_bytes(16)
        await connection.execute("INSERT INTO voting.gateway (gateway_id, build) VALUES ($1, 'nobody')", gateway)
        await connection.execute(
            "INSERT INTO voting.batch (gateway_id, number, input_digest, outcomes, participations_root, ballots_root, "
            "accepted_at) VALUES ($1, 1, $2, '\\x00', $2, $2, now())",
            gateway,
            secrets.token_bytes(32),
        )
        await connection.execute(
            "INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed) "
            "VALUES ($1, gen_random_uuid(), $2, 1, $3)",
            one["survey_id"],
            gateway,
            one["sealed"],
        )
        await connection.execute(
            "INSERT INTO voting.batch_count (gateway_id, number, survey_id, region, ballots, options) "
            "VALUES ($1, 1, $2, $3, 1, $4)",
            gateway,
            one["survey_id"],
            one["region"],
            one["options"],
        )
    yield
