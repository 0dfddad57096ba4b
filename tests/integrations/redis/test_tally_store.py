"""The scripts: each batch once, epochs, offsets, watermarks, and what a server that forgets must not hide."""

import secrets
from collections.abc import AsyncIterator

import pytest

from domain.errors import DomainError
from domain.tally import Addition
from integrations.redis.connection import ForgetfulServerError, durability, open_redis
from integrations.redis.tally import Fold, Rebuild, TallyStore
from integrations.redis.tally_keys import CHUNK
from integrations.redis.tally_reader import TallyReader
from tests.workers.tally_cells import TallyCell

SURVEY = "s_store"
GATEWAY = secrets.token_hex(16)


def batch(number: int, gateway: str = GATEWAY, votes: int = 1) -> Addition:
    return Addition(SURVEY, gateway, number, {("north", ""): votes, ("north", "1"): votes})


def fold(*additions: Addition, epoch: int = 1, next_offset: int = 1, step: int = 1) -> Fold:
    return Fold(SURVEY, epoch, 0, next_offset, step, additions)


async def no_bitmaps() -> AsyncIterator[tuple[str, int, bytes]]:
    none: tuple[tuple[str, int, bytes], ...] = ()
    for each in none:
        yield each


async def install(store: TallyStore, epoch: int, ballots: int = 0, ends: dict[int, int] | None = None) -> bool:
    counts = {("north", ""): ballots, ("north", "1"): ballots} if ballots else {}
    bitmaps = await store.prepare(SURVEY, epoch, no_bitmaps())
    return await store.install(Rebuild(SURVEY, epoch, counts, bitmaps, ends or {0: 0}, 1))


async def ballots(cell: TallyCell) -> int | None:
    view = await TallyReader(cell.redis, cell.name).view(SURVEY, exact=True, installed_epoch=1)
    return None if view.totals is None else view.totals.ballots


@pytest.fixture
def store(tally_cell: TallyCell) -> TallyStore:
    return TallyStore(tally_cell.redis, tally_cell.name)


async def test_batches_count_once_within_a_call_list_and_across_pieces(
    store: TallyStore, tally_cell: TallyCell
) -> None:
    await install(store, 1)
    far = 5 * CHUNK + 3
    first = await store.fold([fold(batch(1), batch(2), batch(far)), fold(batch(2), batch(3))])
    assert [(found.batches, found.repeats) for found in first] == [(3, 0), (1, 1)]
    again = await store.fold([fold(batch(3), batch(far), batch(1), batch(4, votes=2), batch(1, "ff" * 16))])
    assert (again[0].batches, again[0].repeats, again[0].ballots) == (2, 3, 3)
    assert await ballots(tally_cell) == 7


async def test_nothing_is_folded_without_totals_or_into_another_epoch(store: TallyStore, tally_cell: TallyCell) -> None:
    assert (await store.fold([fold(batch(1))]))[0].lost
    assert await ballots(tally_cell) is None
    await install(store, 2)
    assert (await store.fold([fold(batch(1), epoch=1)]))[0].lost
    assert await ballots(tally_cell) == 0


async def test_an_earlier_rebuild_does_not_replace_a_later_one(store: TallyStore, tally_cell: TallyCell) -> None:
    assert await install(store, 3, ballots=30)
    assert not await install(store, 2, ballots=20)
    assert not await install(store, 3, ballots=99)
    assert await ballots(tally_cell) == 30
    left = [key async for key in tally_cell.redis.scan_iter(f"{tally_cell.name}:*:prepared:*")]
    assert left == []


async def test_a_rebuild_that_lost_a_bitmap_is_not_installed(store: TallyStore, tally_cell: TallyCell) -> None:
    async def bitmaps() -> AsyncIterator[tuple[str, int, bytes]]:
        yield GATEWAY, 0, b"\x40"

    number = await store.prepare(SURVEY, 1, bitmaps())
    await tally_cell.redis.delete(store.keys.bitmap(SURVEY, 1, GATEWAY, 0))
    with pytest.raises(DomainError):
        await store.install(Rebuild(SURVEY, 1, {}, number, {0: 0}, 1))


async def test_a_rebuild_remembers_its_batches_and_forgets_the_old_ones(
    store: TallyStore, tally_cell: TallyCell
) -> None:
    await install(store, 1)
    await store.fold([fold(batch(1))])

    async def bitmaps() -> AsyncIterator[tuple[str, int, bytes]]:
        yield GATEWAY, 0, b"\x60"  # numbers 1 and 2

    number = await store.prepare(SURVEY, 2, bitmaps())
    assert await store.install(Rebuild(SURVEY, 2, {("north", ""): 2}, number, {0: 0}, 1))
    folded = await store.fold([fold(batch(1), batch(2), batch(3), epoch=2)])
    assert (folded[0].batches, folded[0].repeats) == (1, 2)
    assert not await tally_cell.redis.exists(store.keys.bitmap(SURVEY, 1, GATEWAY, 0))


async def test_offsets_are_noted_only_by_who_knows_of_every_rebuild(store: TallyStore) -> None:
    await install(store, 1)
    token = await store.installs()
    assert await store.advance(token, 2, {0: (10, 1_000)}) == 0  # the other partition has none
    assert await store.advance(token, 2, {1: (5, 900)}) == 900
    assert await store.advance(token, 2, {1: (6, 800)}) == 900  # a watermark never falls
    await install(store, 2)
    assert await store.advance(token, 2, {0: (20, 2_000)}) is None
    assert await store.offsets() == {0: 10, 1: 6}


async def test_no_watermark_is_later_than_the_clock_that_all_share(store: TallyStore, tally_cell: TallyCell) -> None:
    token, hour_ms = await store.installs(), 3_600_000
    before = await store.now_ms()
    found = await store.advance(token, 1, {0: (10, before + hour_ms)})  # by whoever's clock is an hour ahead
    assert found is not None
    assert before <= found <= await store.now_ms()

    await tally_cell.redis.hset(store.keys.watermarks, "0", str(before + hour_ms))  # as it was left behind
    found = await store.advance(token, 1, {0: (11, before)})
    assert found is not None
    assert before <= found <= await store.now_ms()


async def test_a_rebuild_is_caught_up_where_the_noted_offsets_are(store: TallyStore, tally_cell: TallyCell) -> None:
    await install(store, 1, ends={0: 4})
    assert await store.advance(await store.installs(), 1, {0: (9, 0)}) is not None
    reader = TallyReader(tally_cell.redis, tally_cell.name)
    assert not await store.settle(SURVEY, 1, {0: 8})
    view = await reader.view(SURVEY, exact=True, installed_epoch=1)
    assert view.totals is not None
    assert view.totals.catching_up
    assert (await store.marks([SURVEY], 1))[SURVEY].replays == {0: 4}
    assert not await store.settle(SURVEY, 2, {0: 9})
    assert await store.settle(SURVEY, 1, {0: 9})
    assert (await store.marks([SURVEY], 1))[SURVEY].replays == {}


async def test_scripts_that_redis_forgot_are_given_again(store: TallyStore, tally_cell: TallyCell) -> None:
    await install(store, 1)
    await store.load_scripts()
    await tally_cell.redis.script_flush()
    assert (await store.fold([fold(batch(1))]))[0].batches == 1


async def test_a_server_that_may_evict_is_refused(tally_cell: TallyCell) -> None:
    class Evicting:
        async def info(self, section: str) -> dict[str, object]:
            return {"maxmemory_policy": "allkeys-lru"} if section == "memory" else {"aof_enabled": 1}

    with pytest.raises(ForgetfulServerError):
        await durability(Evicting())  # type: ignore[arg-type]
    assert (await durability(tally_cell.redis))["maxmemory_policy"] == "noeviction"


async def test_a_server_that_is_away(tally_cell: TallyCell) -> None:
    address = tally_cell.settings.cells[tally_cell.name].redis.model_copy(update={"port": 1})
    redis = open_redis(address)
    with pytest.raises(DomainError):
        await TallyStore(redis, tally_cell.name).fold([fold(batch(1))])
    await redis.aclose()
