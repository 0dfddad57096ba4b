"""A primary, its standby and the archive: what is acknowledged is in all three, whoever is killed."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from comitia.restore import back_up
from comitia.stack import postgres
from comitia.stack.account import give
from comitia.stack.pair_restore import RestoreError, Target, restoring
from comitia.stack.pair_state import Mode, read_pair_state
from comitia.stack.pair_watch import PairWatch
from comitia.stack.ports import free_port
from comitia.stack.postgres_pair import PostgresPair
from integrations.postgres.durable import CommitUnknownError, acknowledged
from integrations.postgres.failures import UNAVAILABLE
from integrations.postgres.personal_keys import PostgresPersonalKeys
from integrations.postgres.wrapped_keys import PostgresCellKeys
from tests.comitia.stack.pairs import (
    COMPLETE_WITHIN_S,
    Writer,
    administrator,
    destroy,
    frozen,
    new_pair,
    pool_of,
    reader_of,
    waiting_for_standby,
)
from tests.end_to_end.house import eventually


@dataclass
class Running:
    pair: PostgresPair
    watch: PairWatch

    async def complete(self) -> None:
        """Wait until the pair is one again after it was broken."""
        await self.watch.complete(COMPLETE_WITHIN_S)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="comitia-pair-") as folder:
        pair = new_pair(Path(folder))
        async with PairWatch(pair) as watch:
            yield Running(pair, watch)


async def test_a_commit_is_in_three_places(running: Running) -> None:
    pair = running.pair
    async with administrator(pair) as connection:
        assert await connection.fetchval("SHOW synchronous_standby_names") == "FIRST 2 (a, b, archive)"
        await connection.execute("CREATE TABLE once (number int)")
        place = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint")
    replication = pair.primary.replication
    receivers = await replication.receivers(10)
    replication.close()
    assert {name for name, found in receivers.items() if found.flushed >= place} == {pair.standby.name, "archive"}


@pytest.mark.parametrize("who", ["standby", "archive"])
async def test_no_commit_comes_back_while_one_of_them_is_away(running: Running, who: str) -> None:
    pair = running.pair
    process = pair.standby.process if who == "standby" else pair.archive.process
    async with administrator(pair) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS waiting (number int)")
        with frozen(process):
            commit = asyncio.create_task(connection.execute("INSERT INTO waiting VALUES (1)"))
            done, _ = await asyncio.wait({commit}, timeout=1.0)
            assert not done
        async with asyncio.timeout(COMPLETE_WITHIN_S):
            await commit


async def test_a_cancelled_wait_is_no_answer(running: Running) -> None:
    pair = running.pair
    async with pool_of(pair) as pool, administrator(pair) as other:
        await pool.execute("CREATE TABLE unsure (number int)")

        async def in_a_transaction(connection: asyncpg.pool.PoolConnectionProxy) -> None:
            async with connection.transaction():
                await connection.execute("INSERT INTO unsure VALUES (1)")

        ways: list[Callable[[asyncpg.pool.PoolConnectionProxy], Awaitable[object]]] = [
            in_a_transaction,
            lambda connection: connection.execute("INSERT INTO unsure VALUES (2)"),
            lambda connection: connection.execute("INSERT INTO unsure VALUES ($1)", 3),
            lambda connection: connection.fetchval("INSERT INTO unsure VALUES (4) RETURNING number"),
            lambda connection: connection.executemany("INSERT INTO unsure VALUES ($1)", [(5,), (5,)]),
        ]
        for way in ways:
            async with pool.acquire() as connection:
                with frozen(pair.archive.process):
                    asking = asyncio.ensure_future(way(connection))
                    await waiting_for_standby(other, connection.get_server_pid())
                    await other.execute("SELECT pg_cancel_backend($1)", connection.get_server_pid())
                    with pytest.raises(CommitUnknownError):
                        await asking
                await way(connection)  # the connection is as good as before
        assert await pool.fetchval("SELECT count(*) FROM unsure") == 2 * 6  # the server kept them all the same


async def test_an_ended_session_is_no_answer(running: Running) -> None:
    pair = running.pair
    async with pool_of(pair) as pool, administrator(pair) as other:
        await pool.execute("CREATE TABLE ended (number int)")
        with frozen(pair.standby.process):
            async with pool.acquire() as connection:
                asking = asyncio.ensure_future(connection.execute("INSERT INTO ended VALUES (1)"))
                await waiting_for_standby(other, connection.get_server_pid())
                await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
                with pytest.raises(UNAVAILABLE):
                    await asking


async def test_whoever_reads_what_was_cancelled_waits_before_saying_so(running: Running) -> None:
    pair = running.pair
    async with pool_of(pair) as pool, administrator(pair) as other:
        await pool.execute("CREATE TABLE found (number int)")
        async with pool.acquire() as connection:
            with frozen(pair.standby.process):
                asking = asyncio.ensure_future(connection.execute("INSERT INTO found VALUES (1)"))
                await waiting_for_standby(other, connection.get_server_pid())
                await other.execute("SELECT pg_cancel_backend($1)", connection.get_server_pid())
                with pytest.raises(CommitUnknownError):
                    await asking

                async def look() -> int:
                    async with acknowledged(pool) as reading:
                        return int(await reading.fetchval("SELECT count(*) FROM found"))

                looking = asyncio.create_task(look())
                done, _ = await asyncio.wait({looking}, timeout=1.0)
                assert not done
            async with asyncio.timeout(COMPLETE_WITHIN_S):
                assert await looking == 1


async def test_a_rewrapping_that_only_the_primary_has_is_not_believed(running: Running) -> None:
    pair = running.pair
    await running.complete()
    async with administrator(pair) as watching, administrator(pair) as other, pool_of(pair) as pool:
        await other.execute("CREATE SCHEMA identity")
        await other.execute("CREATE TABLE identity.personal_key (voter_id text, kek_id text, wrapped bytea)")
        await other.execute(
            "CREATE TABLE identity.survey (wrapped_eligibility_key bytea, keys_destroyed_at timestamptz)"
        )
        await other.execute("CREATE SCHEMA voting")
        await other.execute("CREATE TABLE voting.survey (wrapped_ballot_key bytea, keys_destroyed_at timestamptz)")
        await other.execute("INSERT INTO identity.personal_key VALUES ('v', 'old', 'o')")
        personal, cell = PostgresPersonalKeys(pool), PostgresCellKeys(pool)
        assert await personal.uses("old")
        with frozen(pair.standby.process):
            rewrapping = asyncio.create_task(
                other.execute("UPDATE identity.personal_key SET kek_id = 'new', wrapped = 'n'")
            )
            await waiting_for_standby(watching, other.get_server_pid())
            await watching.execute("SELECT pg_cancel_backend($1)", other.get_server_pid())
            await rewrapping  # visible here, and nowhere else
            asked = [
                asyncio.create_task(call)
                for call in (personal.uses("old"), personal.under("old", "", 9), cell.wrapped())
            ]
            done, _ = await asyncio.wait(asked, timeout=1.0)
            assert not done
        assert await asyncio.wait_for(asyncio.gather(*asked), COMPLETE_WITHIN_S) == [False, [], []]


async def test_reads_come_from_the_standby_while_it_is_not_too_far_behind(running: Running) -> None:
    pair = running.pair
    await running.complete()
    async with AsyncExitStack() as lifetime:
        pool = await lifetime.enter_async_context(pool_of(pair))
        exact, patient = [await reader_of(pair, pool, lifetime, max_lag_s=lag) for lag in (0, 3600)]
        standby = await lifetime.enter_async_context(administrator(pair, pair.standby.port))
        await pool.execute("CREATE TABLE read (number int)")
        await pool.execute("INSERT INTO read VALUES (1)")
        assert await exact.fetchval("SELECT count(*) FROM read") == 1
        assert await patient.fetchval("SELECT count(*) FROM read") == 1
        assert (exact.served, patient.served) == ({"standby": 1, "primary": 0}, {"standby": 1, "primary": 0})

        await standby.execute("SELECT pg_wal_replay_pause()")
        try:
            await pool.execute("INSERT INTO read VALUES (2)")
            assert await exact.fetchval("SELECT count(*) FROM read") == 2
            assert await patient.fetchval("SELECT count(*) FROM read") == 1
        finally:
            await standby.execute("SELECT pg_wal_replay_resume()")
        assert (exact.served, patient.served) == ({"standby": 1, "primary": 1}, {"standby": 2, "primary": 0})
        async with exact.acquire() as connection:
            assert await connection.fetchval("SELECT pg_is_in_recovery()")


async def test_without_its_primary_a_standby_is_read_within_the_bound_and_not_beyond(running: Running) -> None:
    pair, watch = running.pair, running.watch
    await running.complete()
    async with AsyncExitStack() as lifetime:
        pool = await lifetime.enter_async_context(pool_of(pair, command_timeout=1.0))
        await pool.execute("CREATE TABLE late (number int)")
        await watch.leave()
        try:
            with frozen(pair.primary.process):
                exact, patient = [await reader_of(pair, pool, lifetime, max_lag_s=lag) for lag in (0, 3600)]
                assert await patient.fetchval("SELECT count(*) FROM late") == 0
                with pytest.raises(UNAVAILABLE):
                    await exact.fetchval("SELECT count(*) FROM late")
        finally:
            watch.resume()
    await running.complete()


async def test_an_archive_that_is_killed_comes_back(running: Running) -> None:
    writer = Writer(running.pair)
    await writer.open()
    await writer.until(20)
    await running.pair.archive.process.kill()
    await writer.until(20)
    await writer.close()
    assert await writer.missing() == set()


async def test_the_standby_takes_over_and_the_old_primary_acknowledges_nothing(
    running: Running, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pair, watch = running.pair, running.watch
    await running.complete()
    writer = Writer(pair)
    await writer.open()
    await writer.until(20)
    old, generation = pair.primary, pair.state.generation

    await watch.leave()  # so that nobody repairs before the old data are put aside
    await old.process.kill()
    revived = pair.place.folder / "revived"
    await asyncio.to_thread(shutil.copytree, old.cluster, revived)
    watch.resume()
    await writer.until(20)  # somebody acknowledges again
    assert pair.primary is not old
    assert pair.state.generation == generation + 1
    await writer.close()
    assert await writer.missing() == set()

    port = free_port({old.port})
    zombie = postgres.server(
        "zombie",
        pair.place.programs,
        revived,
        log=pair.place.logs / "zombie.log",
        port=port,
        account=pair.place.account,
    )
    (revived / "postmaster.pid").unlink(missing_ok=True)
    for file in (revived, *revived.rglob("*")):
        give(file, pair.place.account)
    await zombie.start()
    try:

        async def answers() -> bool:
            try:
                async with administrator(pair, port) as connection:
                    return bool(await connection.fetchval("SELECT NOT pg_is_in_recovery()"))
            except (OSError, asyncpg.PostgresError):
                return False

        await eventually(answers, what="the old primary serves reads")
        async with administrator(pair, port) as connection:
            with pytest.raises(TimeoutError):
                await connection.execute("INSERT INTO written VALUES (-1)", timeout=2)
        async with pool_of(pair, first=port) as pool:  # says that it is primary, too, and comes first
            assert await pool.fetchval("SHOW port") == str(pair.primary.port)
    finally:
        await zombie.stop()
        shutil.rmtree(revived)
    await running.complete()
    assert pair.state.mode is Mode.PAIR


async def test_a_primary_that_hangs_is_replaced(running: Running) -> None:
    pair = running.pair
    await running.complete()
    writer = Writer(pair)
    await writer.open()
    await writer.until(5)
    old, before = pair.primary, len(pair.take_overs)
    with frozen(old.process):
        await writer.close()

        async def replaced() -> bool:
            return pair.primary is not old and len(pair.take_overs) > before

        await eventually(replaced, what="another primary")
    assert await writer.missing() == set()
    await running.complete()


async def test_a_take_over_that_was_cut_short_goes_on_at_the_next_start(running: Running) -> None:
    pair, watch = running.pair, running.watch
    await running.complete()
    async with administrator(pair) as connection:
        await connection.execute("CREATE TABLE kept (number int)")
    heir = pair.standby
    await watch.leave()
    await pair.stop()
    pair.state.next(heir.name).write(pair.place.folder)  # written down, and nothing more was done

    await pair.start()
    watch.resume()
    assert pair.primary is heir
    async with administrator(pair) as connection:
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
    await running.complete()
    known = read_pair_state(pair.place.folder)
    assert known is not None
    assert known.mode is Mode.PAIR


@pytest.mark.long
async def test_a_pair_that_was_destroyed_comes_back_from_its_archive(running: Running) -> None:
    pair = running.pair
    await running.complete()
    writer = Writer(pair)
    await writer.open()
    await writer.until(20)
    await destroy(pair)
    await writer.close()

    async with restoring(pair, Target(), watched=True) as restored:
        assert restored.replayed_to > restored.backup.end
    await running.complete()
    assert await writer.missing() == set()
    assert len(writer.acknowledged) >= 20


@pytest.mark.long
async def test_a_moment_in_the_past_can_be_restored(running: Running) -> None:
    pair = running.pair
    await running.complete()
    async with administrator(pair) as connection:
        await connection.execute("CREATE TABLE moments (number int)")
        await connection.execute("INSERT INTO moments SELECT generate_series(1, 10)")
        moment = await connection.fetchval("SELECT pg_current_wal_lsn()::text")
        await connection.execute("INSERT INTO moments SELECT generate_series(11, 20)")
    backup = await back_up(pair)  # from the standby, and later than the moment
    assert len(pair.archive.backups()) > 1

    async with restoring(pair, Target(lsn=moment), watched=True) as restored:
        assert restored.backup.folder != backup
    await running.complete()
    async with administrator(pair) as connection:
        assert await connection.fetchval("SELECT count(*) FROM moments") == 10
        await connection.execute("INSERT INTO moments VALUES (21)")

    with pytest.raises(RestoreError, match="none of the"):
        async with restoring(pair, Target(lsn="0/1"), watched=True):
            pass
    await running.complete()
    async with administrator(pair) as connection:
        assert await connection.fetchval("SELECT count(*) FROM moments") == 11
