"""A tally that is over, under, behind or lost is found to the batch and the count, and repaired while votes go on."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from comitia.stack.state import StackState
from domain.contracts.reconciliation import DifferenceKind, ReconciliationReport
from integrations.redis.tally_audit import RedisTallyAudit
from integrations.redis.tally_keys import TallyKeys, field_of
from tests.reconciliation_world import PATIENCE_S, PollingPlace, World, named, open_world
from tests.workers.tally_cells import TallyCell

K = DifferenceKind


@pytest_asyncio.fixture(loop_scope="session")
async def still(servers: StackState, make_cells: Callable[[], Awaitable[list[TallyCell]]]) -> AsyncIterator[World]:
    """A survey in two cells whose tallies stand still: what Redis has is what a test put there."""
    async with open_world(servers, await make_cells()) as opened:
        yield opened


async def folded(world: World) -> None:
    """Wait until every tally has what its ledger has."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(checked.waiting == 0 for checked in (await world.reconcile(tally_grace_s=PATIENCE_S)).checked):
            await asyncio.sleep(0.1)


def tally_rows(report: ReconciliationReport) -> set[tuple[str, ...]]:
    return named(report.repaired)


async def add(place: PollingPlace, region: str, option: str, votes: int) -> None:
    totals = TallyKeys.of(place.cell).totals(place.booth.survey.id)
    await place.tally.redis.hincrby(totals, field_of(region, option), votes)


async def counts(place: PollingPlace) -> dict[tuple[str, str], int]:
    found = await RedisTallyAudit(place.tally.redis, place.cell).read(place.booth.survey.id)
    assert found is not None
    return {key: votes for key, votes in found.counts.items() if votes}


RIGHT = {("north", ""): 1, ("north", "1"): 1, ("south", ""): 1, ("south", "2"): 1}


@pytest.mark.parametrize(
    ("region", "option", "votes"), [("north", "1", 5), ("south", "2", -1), ("south", "3", 1), ("west", "", 2)]
)
async def test_totals_that_are_over_or_under_are_repaired(world: World, region: str, option: str, votes: int) -> None:
    place = world.one
    await place.record()
    await folded(world)
    await add(place, region, option, votes)
    report = await world.reconcile()
    assert report.agrees
    row = (K.TALLY_TOTALS_DIFFER.value, place.cell, region, option)
    assert tally_rows(report) == {tuple(part for part in row if part)}
    (found,) = report.repaired
    assert found.found is not None
    assert found.expected is not None
    assert found.found - found.expected == votes
    assert await counts(place) == RIGHT
    assert (await world.reconcile()).repaired == ()


async def test_a_batch_that_the_ledger_does_not_have_is_taken_out(world: World) -> None:
    place = world.two
    await place.record()
    await folded(world)
    keys, survey_id = TallyKeys.of(place.cell), world.survey.id
    epoch = int(await place.tally.redis.hget(keys.totals(survey_id), "@epoch") or 0)
    name = keys.bitmap(survey_id, epoch, place.gateway_id.hex(), 0)
    await place.tally.redis.setbit(name, 77, 1)
    await add(place, "north", "", 1)
    await add(place, "north", "1", 1)
    report = await world.reconcile()
    assert report.agrees
    assert tally_rows(report) == {
        (K.TALLY_BATCH_UNKNOWN.value, place.cell, f"{place.gateway_id.hex()}-77"),
        (K.TALLY_TOTALS_DIFFER.value, place.cell, "north"),
        (K.TALLY_TOTALS_DIFFER.value, place.cell, "north", "1"),
    }
    assert await counts(place) == RIGHT


async def test_a_batch_that_was_never_announced_has_its_time_and_is_folded_then(world: World) -> None:
    place = world.one
    await place.record()
    await folded(world)
    lost = await place.record(place.vote("3", "north"), place.vote("3", "south"), announce=False)
    report = await world.reconcile(tally_grace_s=3600.0)
    assert report.agrees
    assert report.repaired == ()
    assert report.checked[0].waiting == 1
    late = await world.reconcile(tally_grace_s=0.0)
    assert late.agrees
    assert tally_rows(late) == {(K.TALLY_BEHIND.value, place.cell, str(lost))}
    assert await counts(place) == {
        ("north", ""): 2,
        ("north", "1"): 1,
        ("north", "3"): 1,
        ("south", ""): 2,
        ("south", "2"): 1,
        ("south", "3"): 1,
    }


async def test_a_complete_pass_waits_for_a_batch_that_is_announced_meanwhile(world: World) -> None:
    place = world.one
    await place.record()
    await folded(world)
    vote = place.vote("3", "south")
    batch = await place.booth.batch(vote)
    recorded = await place.booth.ledger.record(batch, datetime.now(UTC))
    running = await world.start(complete=True, tally_grace_s=float(PATIENCE_S))
    await asyncio.sleep(0.5)  # it waits meanwhile, or has not begun: either way it must wait for this batch
    await place.announce(recorded.summaries)
    report = await running.result()
    assert report.agrees
    assert report.repaired == ()
    assert report.checked[0].waiting == 0
    assert report.checked[0].tallied == 3


async def test_a_tally_that_has_nothing_is_rebuilt(still: World) -> None:
    for place in still.places.values():
        await place.record(announce=False)
    report = await still.reconcile(tally_grace_s=0.0)
    assert report.agrees
    assert tally_rows(report) == {(K.TALLY_MISSING.value, cell) for cell in still.places}
    assert await counts(still.one) == RIGHT
    await still.one.tally.redis.flushdb()
    report = await still.reconcile(tally_grace_s=0.0)
    assert tally_rows(report) == {(K.TALLY_MISSING.value, still.one.cell)}
    assert await counts(still.one) == RIGHT


async def test_repairs_while_votes_go_on_lose_and_double_nothing(world: World) -> None:
    place = world.one
    await place.record()
    await folded(world)
    done = asyncio.Event()

    async def vote() -> None:
        for number in range(25):
            votes = [place.vote(str(1 + number % 3), "north") for _ in range(4)]
            await place.record(*votes)
        done.set()

    async def break_and_repair() -> None:
        while not done.is_set():
            await add(place, "north", "2", secrets.choice([-3, 1, 7]))
            await world.reconcile_now(tally_grace_s=PATIENCE_S)

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(vote(), break_and_repair())
    report = await world.reconcile(complete=True, tally_grace_s=float(PATIENCE_S))
    assert report.agrees
    assert report.checked[0].tallied == 102
    assert await counts(place) == {
        ("north", ""): 101,
        ("north", "1"): 37,
        ("north", "2"): 32,
        ("north", "3"): 32,
        ("south", ""): 1,
        ("south", "2"): 1,
    }
