"""A second of load on the plain baseline: what was confirmed is what was recorded, and a table that lies is caught."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from benchmarks.baselines.ballots import TABLE
from benchmarks.ground import BASELINES, Ground, ground_on
from benchmarks.peers import Peer, cast_votes_at_peer
from benchmarks.products import VoteLoad
from benchmarks.report import CheckFailedError
from comitia.stack.state import StackState
from integrations.postgres.roles import OWNER, SURVEYS
from tests.conftest import SettingsFor

PEER = Peer("plain", processes=1, pool_size=4)
LOAD = VoteLoad(clients=16, seconds=1.0, warmup_s=0.0, expected=2000)
LOSE = "BEGIN IF hashtext(NEW.nullifier) % 10 = 0 THEN RETURN NULL; END IF; RETURN NEW; END"
DOUBLE = """
BEGIN
    IF pg_trigger_depth() = 1 AND hashtext(NEW.nullifier) % 10 = 0 THEN
        INSERT INTO plain_vote (survey_id, nullifier, answers) VALUES (NEW.survey_id, NEW.nullifier, NEW.answers);
    END IF;
    RETURN NEW;
END
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ground(servers: StackState, settings_for: SettingsFor) -> AsyncIterator[Ground]:
    async with ground_on(servers, settings_for(SURVEYS, OWNER)) as found:
        yield found


@asynccontextmanager
async def liar(ground: Ground, body: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(ground.baseline_url(BASELINES[0]))
    try:
        await connection.execute(TABLE)
        await connection.execute("ALTER TABLE plain_vote DROP CONSTRAINT uq_plain_vote_survey_nullifier")
        await connection.execute(f"CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
        await connection.execute("CREATE TRIGGER lie BEFORE INSERT ON plain_vote FOR EACH ROW EXECUTE FUNCTION lie()")
        yield
    finally:
        await connection.execute("DROP TABLE plain_vote; DROP FUNCTION lie")
        await connection.close()


async def test_every_confirmed_vote_is_recorded_once(ground: Ground) -> None:
    measured = await cast_votes_at_peer(ground, PEER, LOAD)

    assert measured.load.counts == {"201/confirmed": measured.load.sent}
    assert 0 < measured.load.sent == measured.load.answered
    assert f"= {measured.load.sent:,}" in measured.checked


@pytest.mark.parametrize(("body", "said"), [(LOSE, "recorded"), (DOUBLE, "voters")], ids=["lost", "doubled"])
async def test_a_table_that_lies_is_caught(ground: Ground, body: str, said: str) -> None:
    async with liar(ground, body):
        with pytest.raises(CheckFailedError, match=said):
            await cast_votes_at_peer(ground, PEER, LOAD)


def test_requests_of_a_run_leave_no_file(servers: StackState) -> None:
    assert not list(Path(servers.folder).glob("requests-*"))
