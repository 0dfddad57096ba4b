"""An honest ledger agrees at every instant, whatever is in flight; and nothing that commits late is passed over."""

import asyncio
import secrets
from contextlib import AsyncExitStack

import pytest

from domain.contracts.reconciliation import DifferenceKind
from domain.errors import DomainError
from integrations.postgres.ledger_audit import PostgresLedgerAudit
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import RECONCILIATION
from tests.reconciliation_world import PATIENCE_S, PollingPlace, World, named
from tests.voting_world import open_booth, small_survey, voting_keys

_ROUNDS = 12
_VOTERS = 5


async def test_an_honest_ledger_under_load_never_differs(world: World) -> None:
    done = asyncio.Event()
    known = [secrets.token_bytes(32) for _ in range(10)]

    async def vote(place: PollingPlace) -> None:
        for number in range(_ROUNDS):
            votes = [place.vote(str(1 + n % 3), ("north", "south")[n % 2]) for n in range(_VOTERS)]
            if place is world.one:  # people who vote again, in this batch and in others
                votes += [place.vote(nullifier=secrets.choice(known)) for _ in range(3)]
            await place.record(*votes, announce=number % 4 != 3)  # some wait for the tally, and come to it late

    async def reconcile() -> list[bool]:
        agreed: list[bool] = []
        while not done.is_set():
            complete = len(agreed) % 3 == 2
            report = await world.reconcile_now(complete=complete, tally_grace_s=0.0 if complete else 3600.0)
            assert report.differences == (), report.differences
            assert {found.kind for found in report.repaired} <= {DifferenceKind.TALLY_BEHIND}, report.repaired
            agreed.append(report.agrees or report.unreached != ())
        return agreed

    async with asyncio.timeout(PATIENCE_S):
        watching = [asyncio.create_task(reconcile()) for _ in range(2)]
        await asyncio.gather(*(vote(place) for place in world.places.values() for _ in range(2)))
        done.set()
        assert all(all(agreed) for agreed in await asyncio.gather(*watching))
    for complete in (False, True):
        report = await world.reconcile(complete=complete, tally_grace_s=0.0)
        assert report.agrees
        for checked, place in zip(report.checked, world.places.values(), strict=True):
            found = await place.booth.counts()
            assert (checked.participations, checked.ballots) == (found["participations"], found["ballots"])
            assert sum(region.counted for region in checked.regions) == found["counted"] == checked.tallied


async def test_what_commits_after_a_pass_is_checked_by_the_next(world: World) -> None:
    place = world.one
    await place.record()
    assert (await world.reconcile()).agrees
    late = place.vote(region="south")
    async with place.owner.acquire() as connection:
        open_transaction = connection.transaction()
        await open_transaction.start()
        await connection.execute(
            "INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac) "
            "VALUES ($1, $2, $3, $4, '')",
            late.survey_id,
            late.nullifier,
            late.region,
            late.evidence,
        )
        for _ in range(3):
            await place.record()  # committed after it began: their numbers are higher
            report = await world.reconcile_now()
            assert report.agrees
            assert report.checked[0].participations == 2, "nothing is final behind an open transaction"
        await open_transaction.commit()
    report = await world.reconcile()
    assert report.checked[0].participations == 9
    assert report.checked[0].batches == 4
    assert {found.kind for found in report.differences} == {
        DifferenceKind.PARTICIPATION_WITHOUT_BATCH,
        DifferenceKind.TOTALS_DIFFER,
    }


async def test_a_tally_is_compared_with_batches_that_are_not_final_yet(world: World) -> None:
    place = world.one
    async with place.owner.acquire() as connection:
        open_transaction = connection.transaction()
        await open_transaction.start()
        await connection.execute("SELECT pg_current_xact_id()")
        await place.record()
        async with asyncio.timeout(PATIENCE_S):
            while (report := await world.reconcile_now(tally_grace_s=3600.0)).checked[0].announced < 1:
                assert report.agrees
        assert report.agrees
        assert (report.checked[0].batches, report.checked[0].tallied, report.checked[0].waiting) == (0, 2, 0)
        await open_transaction.rollback()


async def test_batches_of_several_surveys_agree_for_each(world: World) -> None:
    place = world.one
    keys = voting_keys(world.settings)
    other = await open_booth(place.cell, place.voting, place.owner, keys, small_survey(regions=("north",)))
    theirs = PollingPlace(place.tally, other, place.voting, place.signer)
    for _ in range(2):
        await place.record(place.vote(), theirs.vote(), place.vote(region="south"), theirs.vote())
        await place.record()
        assert (await world.reconcile()).agrees
    report = await world.reconcile(complete=True)
    assert report.agrees
    assert report.checked[0].participations == report.checked[0].ballots == 8
    vote = theirs.vote()
    await place.voting.execute(
        "INSERT INTO voting.participation (survey_id, nullifier, region, evidence, key_mac) "
        "VALUES ($1, $2, 'north', $3, '')",
        vote.survey_id,
        vote.nullifier,
        secrets.token_bytes(64),
    )
    assert (await world.reconcile(complete=True)).agrees, "that is a fault of the other survey"


async def test_rows_that_are_not_at_the_end_of_their_table_are_found_all_the_same(world: World) -> None:
    place = world.one
    async with AsyncExitStack() as opened:
        pool = await open_pool(world.settings.cells[place.cell].database, world.settings, RECONCILIATION)
        opened.push_async_callback(pool.close)
        ledger = PostgresLedgerAudit(pool, place.cell, blocks_back=0)
        await place.record()
        await place.everything_is_final()
        assert await _pass(ledger, world, everywhere=False) == (2, False)
        missed, found, recorded = False, 0, 0
        while not missed:
            # New rows go into the page that the last ones are in, which is before where this one looks, unless it is
            # full: then they are found, and the next ones are not
            assert recorded <= 8
            await place.record()
            await place.everything_is_final()
            recorded += 2
            found, missed = await _pass(ledger, world, everywhere=False, keep=False)
        assert found < recorded
        assert await _pass(ledger, world, everywhere=True) == (recorded, False)
        assert await _pass(ledger, world, everywhere=False) == (0, False)


async def test_a_pass_that_fails_half_way_is_no_pass(world: World) -> None:
    place = world.one
    await place.record()
    async with AsyncExitStack() as opened:
        pool = await open_pool(world.settings.cells[place.cell].database, world.settings, RECONCILIATION)
        opened.push_async_callback(pool.close)
        ledger = PostgresLedgerAudit(pool, place.cell)
        await place.everything_is_final()
        with pytest.raises(ZeroDivisionError):
            await _fail_half_way(ledger, world)
        assert (await _pass(ledger, world, everywhere=False)) == (2, False)
        async with ledger.open_pass(world.survey.id, complete=False):
            with pytest.raises(DomainError, match="another pass"):
                async with ledger.open_pass(world.survey.id, complete=True):
                    raise AssertionError
    report = await world.reconcile(complete=True)
    assert named(report.differences) == set()


async def _fail_half_way(ledger: PostgresLedgerAudit, world: World) -> None:
    async with ledger.open_pass(world.survey.id, complete=False) as current:
        assert [each async for each in current.transactions(everywhere=False)]
        await current.keep(current.sums, [], uncompared=False)
        raise ZeroDivisionError


async def _pass(ledger: PostgresLedgerAudit, world: World, *, everywhere: bool, keep: bool = True) -> tuple[int, bool]:
    """Return how many participations a pass reads, and whether it missed rows."""
    found = 0
    async with ledger.open_pass(world.survey.id, complete=False) as current:
        async for chunk in current.transactions(everywhere=everywhere):
            found += sum(len(transaction.participations) for transaction in chunk)
        missed = current.missed
        if keep:
            await current.keep(current.sums, [], uncompared=False)
    return found, missed
