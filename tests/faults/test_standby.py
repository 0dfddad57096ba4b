"""Every database with a standby: a primary, or a whole cell, is lost in the middle of load, and no vote is."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from comitia.restore import read_notes
from comitia.stack.pair_watch import PairWatch
from comitia.stack.topology import Topology
from domain.contracts.voting import Outcome
from domain.errors import DomainError, ErrorCode
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import VOTING
from integrations.settings import Environment
from tests.comitia.stack.pairs import COMPLETE_WITHIN_S, administrator, destroy, frozen
from tests.end_to_end.house import House, eventually, open_house
from tests.faults.load import Load
from tests.voting_world import open_booth, voting_keys

pytestmark = pytest.mark.long

VOTERS = 120
CHECKED = {
    "base backup",
    "revision",
    "append-only triggers",
    "constraints",
    "participations = ballots = counted",
    "Merkle roots of batches",
    "rows that belong to no batch",
    "audit entries say the same roots",
    "batches of the notes",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def standing() -> AsyncIterator[House]:
    """A platform of its own, where every database has a standby and an archive."""
    with tempfile.TemporaryDirectory(prefix="comitia-standing-") as folder:
        async with open_house(Path(folder), topology=Topology(standby=True)) as opened:
            yield opened


def watch_of(house: House, cell: str) -> PairWatch:
    return house.servers.pairs[cell]


async def comitia(*arguments: str) -> tuple[int, str]:
    """Run the command line; return its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "comitia.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "200"},
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_no_vote_is_lost_with_the_primary_that_took_it(standing: House) -> None:
    watch = watch_of(standing, "eu")
    pair, elsewhere = watch.pair, watch_of(standing, "us").pair.state
    survey = await standing.open_survey()
    load = Load.of(standing, survey, VOTERS, ("eu", "us"))
    voting = asyncio.create_task(load.run())
    await load.acknowledge(VOTERS // 4)
    old = pair.primary
    await old.process.kill()
    promised = set(load.acknowledged)
    await voting

    assert len(promised) < VOTERS  # it was in the middle
    assert not load.interrupted  # our own processes stayed and had an answer for everyone
    await load.insist()
    await load.confirmed()
    await standing.settled(survey, VOTERS)
    assert pair.primary is not old
    assert watch_of(standing, "us").pair.state == elsewhere  # the other cell took no notice
    await watch.complete(COMPLETE_WITHIN_S)


async def test_a_batch_whose_commit_was_cancelled_is_told_when_it_is_everywhere_and_recorded_once(
    standing: House,
) -> None:
    watch = watch_of(standing, "us")
    await watch.complete(COMPLETE_WITHIN_S)
    settings = standing.state.settings_for(VOTING, environment=Environment.TEST)
    pool = await open_pool(settings.cells["us"].database, settings, VOTING, size=2)
    try:
        booth = await open_booth("us", pool, standing.owners["us"], voting_keys(settings))
        batch = await booth.batch(booth.vote(), booth.vote())
        at = datetime(2025, 6, 1, tzinfo=UTC)
        async with administrator(watch.pair) as other:
            with frozen(watch.pair.standby.process):
                recording = asyncio.create_task(booth.ledger.record(batch, at))
                waiting = (
                    "SELECT pid FROM pg_stat_activity WHERE datname = 'us' AND usename = 'comitia_voting' "
                    "AND wait_event = 'SyncRep'"
                )
                pid = await eventually(lambda: other.fetchval(waiting), what="a batch that waits for the standby")
                await other.execute("SELECT pg_cancel_backend($1)", pid)
                with pytest.raises(DomainError) as unknown:
                    await recording
                assert unknown.value.code is ErrorCode.LEDGER_UNAVAILABLE

                again = asyncio.create_task(booth.ledger.record(batch, at))
                done, _ = await asyncio.wait({again}, timeout=1.0)
                assert not done
            recorded = await asyncio.wait_for(again, COMPLETE_WITHIN_S)
        assert list(recorded.outcomes) == [Outcome.RECORDED] * 2
        assert await booth.counts() == {"participations": 2, "ballots": 2, "counted": 2}
    finally:
        pool.terminate()


async def test_a_cell_that_is_destroyed_comes_back_with_every_vote(standing: House, tmp_path: Path) -> None:
    watch = watch_of(standing, "eu")
    pair = watch.pair
    await watch.complete(COMPLETE_WITHIN_S)
    survey = await standing.open_survey()
    load = Load.of(standing, survey, VOTERS)
    voting = asyncio.create_task(load.run())
    await load.acknowledge(VOTERS // 4)
    await destroy(pair)
    await voting
    assert set(load.statuses()) <= {201, 202, 503}

    elsewhere = Load.of(standing, survey, 30, ["us"])
    await elsewhere.run()
    assert set(elsewhere.statuses()) <= {201, 202}  # the other cell takes no notice
    assert elsewhere.statuses().get(201)
    _, access = await standing.voter("us")
    assert (await standing.ask_to_vote(survey.id, access)).status_code == 201

    async def told() -> bool:
        answer = await standing.cast(survey, standing.token(survey, "eu"))
        assert answer.status_code in {202, 503}, answer.text
        return answer.status_code == 503 and answer.json()["code"] == "cell_unavailable"

    await eventually(told, what="a voter of the lost cell is told")

    notes = tmp_path / "notes"
    confirmed = [answer.json()["submissionId"] for answer in load.answers.values() if answer.status_code == 201]
    await asyncio.to_thread(notes.write_text, "\n".join(confirmed))
    status, said = await comitia("restore", "eu", "--data", str(standing.state.folder), "--notes", str(notes))
    assert status == 0, said
    assert not [what for what in CHECKED if what not in said], said
    assert "WRONG" not in said
    assert f"{len(read_notes(notes))} noted, 0 missing" in said
    await watch.complete(COMPLETE_WITHIN_S)

    status, said = await comitia("backup", "eu", "--data", str(standing.state.folder))
    assert status == 0, said
    assert len(pair.archive.backups()) > 1

    await load.confirmed()
    await load.insist()

    async def all_counted() -> bool:
        return (await standing.counts(survey))[0] >= VOTERS + 30

    await eventually(all_counted, what="every vote in the ledgers")
    votes, _, _ = await standing.counts(survey)  # some of those who were told had been accepted before
    await standing.settled(survey, votes)


async def test_votes_from_after_a_restore_to_before_their_gateways_start_are_counted_and_certified(
    standing: House,
) -> None:
    watch = watch_of(standing, "eu")
    await watch.complete(COMPLETE_WITHIN_S)
    survey = await standing.open_survey()
    moment = await standing.owners["eu"].fetchval("SELECT pg_current_wal_lsn()::text")

    async def gateways() -> int:
        return int(await standing.owners["eu"].fetchval("SELECT count(*) FROM voting.gateway"))

    async def one_more() -> bool:
        return await gateways() == before + 1

    before = await gateways()
    await standing.supervisor.processes["api-votes"].stop()
    await standing.supervisor.start("api-votes")
    await eventually(one_more, what="the gateway of the new process")

    status, said = await comitia("restore", "eu", "--data", str(standing.state.folder), "--to", moment)
    assert status == 0, said
    await watch.complete(COMPLETE_WITHIN_S)
    assert await gateways() == before
    load = Load.of(standing, survey, VOTERS // 4, ("eu", "us"))
    await load.run()
    await load.confirmed()
    await standing.settled(survey, VOTERS // 4)
    await standing.finish(survey)

    async def certified() -> bool:
        return bool((await standing.results(survey)).get("certificateId"))

    await eventually(certified, within_s=90, what="the certificate")
    assert (await standing.results(survey))["totalResponses"] == VOTERS // 4
