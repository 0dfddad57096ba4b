"""Many processes and one Redis of the test's own: what they let through together, and what happens without it."""

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from structlog.testing import capture_logs

from api.http.limiting import CellLimits
from comitia.stack import redis as stack_redis
from comitia.stack.ports import HOST, free_port
from comitia.stack.process import ManagedProcess
from domain.errors import DomainError, ErrorCode
from domain.limit_buckets import SHARE_LEAST
from domain.limits import VOTE_ADDRESS, VOTE_TOKEN, policies_with
from integrations.addresses import RedisAddress
from integrations.redis.connection import open_redis
from integrations.redis.limits import RedisBuckets, Standing, Taken
from integrations.telemetry.metrics import LimitMetrics
from tests.clocks import clock_variables, faketime

KEY = bytes(range(32))
DEADLINE_S = 60.0
SLOW = (100, 100_000)  # a hundred at once; what flows in during a test is less than one


class Server:
    """A Redis that can be killed, stopped and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.process: ManagedProcess = stack_redis.process(folder, folder / "redis.log", port)

    async def start(self) -> None:
        await self.process.start()
        await stack_redis.ready(self.process, self.port)

    async def set_clock(self, ahead_s: int, library: Path) -> None:
        """Start it anew with its data and its wall clock so far ahead."""
        await self.process.stop()
        self.process.environment = {**os.environ, **(clock_variables(library, ahead_s) if ahead_s else {})}
        await self.start()

    def freeze(self, number: signal.Signals) -> None:
        self.process._send(number)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(stack_folder: Path) -> AsyncIterator[Server]:
    folder = stack_folder / f"limits-{secrets.token_hex(4)}"
    folder.mkdir()
    port = free_port(())
    made = Server(folder, port)
    await made.start()
    yield made
    await made.process.kill()


class Cell:
    """Any number of processes of a fresh service and cell."""

    def __init__(self, server: Server, opened: AsyncExitStack) -> None:
        self.name = f"c{secrets.token_hex(4)}"
        self._server = server
        self._opened = opened

    def redis(self) -> Redis:
        redis = open_redis(RedisAddress(host=HOST, port=self._server.port), answer_timeout_s=0.5, connections=20)
        self._opened.push_async_callback(redis.aclose)
        return redis

    def store(self) -> RedisBuckets:
        return RedisBuckets(self.redis(), self.name, "votes", KEY)

    def process(self, limit: tuple[int, int], registry: CollectorRegistry | None = None) -> CellLimits:
        metrics = LimitMetrics(registry or CollectorRegistry())
        return CellLimits(self.name, self.store(), policies_with({"vote-token": limit}), metrics)

    async def processes(self, count: int, limit: tuple[int, int]) -> list[CellLimits]:
        """Return processes that know of each other."""
        made = [self.process(limit) for _ in range(count)]
        for _ in range(2):
            for one in made:
                one._told_at = 0.0  # its beat is due
                await one.tell()
        return made


@pytest_asyncio.fixture(loop_scope="session")
async def cell(server: Server) -> AsyncIterator[Cell]:
    async with AsyncExitStack() as opened:
        yield Cell(server, opened)


def take(limits: CellLimits, subject: str = "a") -> bool:
    return limits.buckets(VOTE_TOKEN).take(subject, limits.now()) >= 0


def drain(limits: CellLimits, subject: str = "a") -> int:
    taken = 0
    while take(limits, subject):
        taken += 1
    return taken


async def until_shared(limits: CellLimits, *, shared: bool) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while limits.is_alone is shared:
            await limits.tell()
            await asyncio.sleep(0.02)


async def test_everything_that_is_booked_at_once_is_booked(cell: Cell) -> None:
    stores = [cell.store() for _ in range(4)]
    wanted = [Taken(VOTE_TOKEN, "a", 10.0), Taken(VOTE_TOKEN, "b", 1.0), Taken(VOTE_ADDRESS, "a", 100.0)]
    await asyncio.gather(*(stores[n % 4].book(wanted) for n in range(40)))
    standing = await stores[0].book([])
    assert (standing.processes, list(standing.full_in_s)) == (4, [])
    standing = await stores[0].book(wanted)
    for one, full_in_s in zip(wanted, standing.full_in_s, strict=True):
        assert 41 * one.needs_s - DEADLINE_S < full_in_s <= 41 * one.needs_s
    assert standing.full_in_s[2] > standing.full_in_s[0] > standing.full_in_s[1]


async def test_a_bucket_names_nobody_and_lives_until_it_is_full(cell: Cell) -> None:
    address = "203.0.113.77"
    await cell.store().book([Taken(VOTE_ADDRESS, address, 20.0), Taken(VOTE_TOKEN, b"\x07" * 32, 0.05)])
    redis = cell.redis()
    keys = [key async for key in redis.scan_iter(f"{cell.name}:*")]
    assert keys
    assert not any(address.encode() in key or b"07" * 16 in key for key in keys)
    (bucket,) = [key for key in keys if b":vote-address:" in key]
    assert 0 < await redis.pttl(bucket) <= 20_000
    async with asyncio.timeout(DEADLINE_S):
        while [key async for key in redis.scan_iter(f"{cell.name}:limits:vote-token:*")]:
            await asyncio.sleep(0.02)


async def test_many_processes_keep_to_one_limit(cell: Cell) -> None:
    """Told after each request, the limit is exact to what is not told of a first one and what a share is at least."""
    count, (quota, _) = 6, SLOW
    processes = await cell.processes(count, SLOW)
    taken, chance = 0, random.Random(1)
    for _ in range(5 * quota):
        one = chance.choice(processes)
        taken += take(one)
        await one.tell()
    for one in processes:  # nobody is refused what is there
        taken += take(one)
        await one.tell()
    assert quota <= taken <= quota + count * (SHARE_LEAST + 1)


async def test_processes_that_tell_late_let_through_twice_the_limit_at_most_and_then_nothing(cell: Cell) -> None:
    """The worst case: all believe that everything is left, and one after the other drains what it believes in."""
    count, (quota, _) = 8, SLOW
    processes = await cell.processes(count, SLOW)
    for one in processes:  # each bucket is known everywhere, and full but for a few
        take(one), take(one)
        await one.tell()
    first = processes[0]
    taken = 2 * count
    for _ in range(100):  # the first tells all the time, and so gets everything that is left
        taken += drain(first)
        await first.tell()
    assert quota <= taken <= quota + SHARE_LEAST + 1
    taken += sum(drain(one) for one in processes)
    assert taken <= 2 * quota + count * (SHARE_LEAST + 1)
    for one in processes:
        await one.tell()
    assert sum(drain(one) for one in processes) == 0


async def test_over_a_longer_time_the_rate_is_exact(cell: Cell) -> None:
    count, (quota, window_s) = 4, (50, 1)
    processes = await cell.processes(count, (quota, window_s))
    running = [asyncio.create_task(one.run()) for one in processes]
    began, taken, longest_s, asked_at = time.monotonic(), 0, 0.0, time.monotonic()
    while time.monotonic() - began < 3.0:
        taken += sum(map(take, processes))
        await asyncio.sleep(0.001)
        longest_s, asked_at = max(longest_s, time.monotonic() - asked_at), time.monotonic()
    took_s = time.monotonic() - began
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    rate = quota / window_s
    settled_s = 0.1 + 3 * longest_s  # between two tellings, on a machine that stood still for so long
    assert taken <= 2 * quota + rate * took_s + count * (SHARE_LEAST + 1 + rate * settled_s)
    assert taken >= rate * took_s * 0.5  # and it is a limit, not a wall


async def test_what_redis_says_comes_back_with_the_next_telling(cell: Cell) -> None:
    one, other = await cell.processes(2, SLOW)
    take(other), take(other)
    await other.tell()
    for _ in range(60):
        drain(one)
        await one.tell()
    take(other)
    await other.tell()
    assert drain(other) == 0


async def test_without_redis_a_process_limits_alone_and_goes_on_when_it_is_back(server: Server, cell: Cell) -> None:
    registry = CollectorRegistry()
    limits = cell.process(SLOW, registry)

    def metric(name: str) -> float | None:
        return registry.get_sample_value(name, {"cell": cell.name})

    take(limits), take(limits)
    await limits.tell()
    assert metric("limit_fallback_active") == 0
    with capture_logs() as logs:
        await server.process.kill()
        await until_shared(limits, shared=False)
        taken = 2 + drain(limits)
        for _ in range(3):
            assert take(limits) is False
            await limits.tell()
        assert taken == SLOW[0]  # neither unlimited nor shut
        assert metric("limit_fallback_active") == 1
        await server.start()
        await until_shared(limits, shared=True)
    assert [entry["event"] for entry in logs] == ["limits_alone", "limits_shared"]
    assert metric("limit_fallback_active") == 0
    assert (metric("limit_settlement_failures_total") or 0) >= 1
    assert take(limits) is False
    assert take(limits, "somebody else")


async def test_a_redis_that_lost_everything_forgives_nobody(cell: Cell) -> None:
    limits = cell.process(SLOW)
    assert drain(limits) == SLOW[0]
    await limits.tell()
    redis = cell.redis()
    for key in [key async for key in redis.scan_iter(f"{cell.name}:*")]:
        await redis.delete(key)
    limits.buckets(VOTE_TOKEN).take("a", limits.now())
    limits._told_at = 0.0
    await limits.tell()
    assert drain(limits) == 0


async def test_a_limit_with_other_numbers_starts_anew(cell: Cell) -> None:
    """Whoever is deep in debt under the old numbers is not refused for it under the new ones."""
    old, new = cell.process((2, 1_000_000)), cell.process((50, 60))
    drain(old), take(new), take(new)
    for one in (old, new):
        await one.tell()
    assert drain(old) == 0
    assert drain(new) >= 20  # its share


async def test_nobody_waits_for_a_redis_that_hangs(server: Server, cell: Cell) -> None:
    limits = cell.process(SLOW)
    take(limits), take(limits)
    server.freeze(signal.SIGSTOP)
    try:
        telling = asyncio.create_task(limits.tell())
        await asyncio.sleep(0)
        assert 2 + drain(limits) == SLOW[0]  # in the same step of the loop in which it is asked
        assert not telling.done()
        async with asyncio.timeout(DEADLINE_S):
            await telling
        assert limits.is_alone
    finally:
        server.freeze(signal.SIGCONT)
    await until_shared(limits, shared=True)


async def test_a_store_that_is_away_says_so_by_its_code(cell: Cell) -> None:
    redis = open_redis(RedisAddress(host=HOST, port=free_port(())), answer_timeout_s=0.5)
    with pytest.raises(DomainError) as raised:
        await RedisBuckets(redis, cell.name, "votes", KEY).book([])
    assert raised.value.code is ErrorCode.LIMITS_UNAVAILABLE
    await redis.aclose()


async def test_many_addresses_do_not_grow_a_process(cell: Cell) -> None:
    metrics = LimitMetrics(CollectorRegistry())
    limits = CellLimits(cell.name, cell.store(), policies_with({}), metrics, kept_max=1000)
    buckets = limits.buckets(VOTE_TOKEN)
    for number in range(20_000):
        buckets.take(str(number), limits.now())
        buckets.take(str(number), limits.now())
        if number % 5000 == 0:
            await limits.tell()
    await limits.tell()
    assert limits.kept() <= 1000
    assert limits.owed() == 0


async def test_a_process_that_stops_leaves_its_share_to_the_others_at_once(cell: Cell) -> None:
    stays, goes = cell.store(), cell.store()
    assert [(await each.book([])).processes for each in (stays, goes)] == [1, 2]
    for _ in range(2):
        await goes.leave()
        assert (await stays.book([])).processes == 1


async def test_a_clock_that_was_ahead_holds_nobody_up_once_it_is_right(server: Server, cell: Cell) -> None:
    """What is owed stays owed; the hour by which the clock was wrong is not."""
    if (library := faketime()) is None:
        pytest.skip("libfaketime is not installed")
    owed = [Taken(VOTE_ADDRESS, "a", 6.0), Taken(VOTE_TOKEN, "b", 300.0)]
    try:
        await server.set_clock(3600, library)
        ahead = await _booked(cell.store(), owed)
    finally:
        await server.set_clock(0, library)
    came_back = cell.store()
    right = await _booked(came_back, owed)
    for one, before_s, after_s in zip(owed, ahead.full_in_s, right.full_in_s, strict=True):
        assert before_s + one.needs_s == pytest.approx(after_s, abs=0.001)
    assert right.processes == 1  # the other one has told nothing since the clock is right
    again = await came_back.book(owed)
    for one, before_s, after_s in zip(owed, right.full_in_s, again.full_in_s, strict=True):
        assert before_s + one.needs_s - DEADLINE_S < after_s <= before_s + one.needs_s  # it flows in as ever


async def _booked(store: RedisBuckets, taken: list[Taken]) -> Standing:
    """Book once Redis serves: what it loads or a connection that it closed is no answer."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await store.book(taken)
            except DomainError:
                await asyncio.sleep(0.02)


async def test_what_the_release_before_left_is_taken_over(cell: Cell) -> None:
    """It keeps the instant alone, and reads ours as that instant."""
    store, redis = cell.store(), cell.redis()
    await store.book([Taken(VOTE_TOKEN, "a", 300.0)])
    (name,) = [key async for key in redis.scan_iter(f"{cell.name}:limits:vote-token:*")]
    seconds, _ = await redis.time()
    written = await redis.get(name)
    assert isinstance(written, bytes)
    kept = float(written) / 1e6
    assert 300.0 - DEADLINE_S < kept - seconds <= 301.0
    await redis.set(name, f"{kept * 1e6:.0f}", px=300_000)
    (full_in_s,) = (await store.book([Taken(VOTE_TOKEN, "a", 10.0)])).full_in_s
    assert 310.0 - DEADLINE_S < full_in_s <= 310.0


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.001, 6000.0)), max_size=6), max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nothing_that_is_owed_is_forgiven_while_the_clock_goes_on(
    cell: Cell, calls: list[list[tuple[str, float]]]
) -> None:
    store, owed, began = cell.store(), dict[str, float](), time.monotonic()
    run = secrets.token_hex(4)
    for call in calls:
        standing = await store.book([Taken(VOTE_TOKEN, f"{run}{subject}", needs_s) for subject, needs_s in call])
        for (subject, needs_s), full_in_s in zip(call, standing.full_in_s, strict=True):
            owed[subject] = owed.get(subject, 0.0) + needs_s
            assert owed[subject] - (time.monotonic() - began) - 0.001 <= full_in_s <= owed[subject] + 0.001
