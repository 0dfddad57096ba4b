"""The telling of limits, where the store misbehaves as its driver does."""

import asyncio
import time
from collections.abc import Container, Sequence

from prometheus_client import CollectorRegistry

from api.background import cancel
from api.http.limiting import PAUSE_S, BucketStore, CellLimits
from domain.errors import DomainError, ErrorCode
from domain.limits import VOTE_TOKEN, policies_with
from integrations.redis.limits import Standing, Taken
from integrations.telemetry.metrics import LimitMetrics

DEADLINE_S = 30.0


class SwallowingStore:
    """Answers when it is cancelled, and forgets that it was: what redis-py does between two reads."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.told: list[Taken] = []

    async def book(self, taken: Sequence[Taken]) -> Standing:
        self.told += taken
        self.asked.set()
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            return Standing(1, [0.0] * len(taken))
        raise AssertionError("nobody cancelled it")


class Store:
    """One of several processes' store: notes what each call tells, and fails the calls whose numbers are given."""

    def __init__(self, *, processes: int = 1, failing: Container[int] = ()) -> None:
        self.processes, self.failing = processes, failing
        self.calls: list[list[Taken]] = []
        self.called_at: list[float] = []

    async def book(self, taken: Sequence[Taken]) -> Standing:
        self.called_at.append(time.monotonic())
        self.calls.append(list(taken))
        if len(self.calls) in self.failing:
            raise DomainError(ErrorCode.LIMITS_UNAVAILABLE)
        return Standing(self.processes, [0.0] * len(taken))


def limits_of(store: BucketStore, **changed: tuple[int, int]) -> CellLimits:
    return CellLimits("eu", store, policies_with(changed), LimitMetrics(CollectorRegistry()))


def take(limits: CellLimits, subject: str) -> bool:
    return limits.buckets(VOTE_TOKEN).take(subject, limits.now()) >= 0


async def test_many_buckets_are_told_in_batches() -> None:
    store = Store()
    limits, subjects = limits_of(store), [str(number) for number in range(1200)]
    assert all(take(limits, subject) for subject in subjects * 2)
    await limits.tell()
    assert [len(call) for call in store.calls] == [500, 500, 200]
    assert [one.subject for call in store.calls for one in call] == subjects


async def test_what_a_lost_call_was_to_tell_is_not_told_later() -> None:
    store = Store(failing={2})
    limits, subjects = limits_of(store), [str(number) for number in range(1200)]
    assert all(take(limits, subject) for subject in subjects * 2)
    await limits.tell()
    assert [len(call) for call in store.calls] == [500, 500]  # it may have been booked; and the rest flows in meanwhile
    assert limits.is_alone
    for number in (0, 700, 1100):
        assert take(limits, str(number))
    await limits.tell()
    assert {one.subject: one.needs_s for one in store.calls[2]} == dict.fromkeys(
        ("0", "700", "1100"), VOTE_TOKEN.interval_s
    )
    assert not limits.is_alone


async def test_whoever_is_alone_has_no_share_but_the_whole_limit() -> None:
    store = Store(processes=4, failing={2})
    limits = limits_of(store, vote_token=(100, 100_000))
    await limits.tell()
    assert sum(take(limits, "shared") for _ in range(200)) == 25
    await limits.tell()
    assert limits.is_alone
    assert sum(take(limits, "alone") for _ in range(200)) == 100


def test_limits_that_staff_make_up_do_not_grow_a_process() -> None:
    limits = limits_of(Store())
    for requests_per_minute in range(1, 301):
        limits.of_client(requests_per_minute).take("c_1", limits.now())
    assert limits.kept() <= 100


async def test_a_store_that_failed_is_left_alone_for_a_moment() -> None:
    store = Store(failing=range(1, 100))
    telling = asyncio.create_task(limits_of(store).run())
    async with asyncio.timeout(DEADLINE_S):
        while len(store.called_at) < 2:
            await asyncio.sleep(0.02)
    await cancel(telling)
    assert store.called_at[1] - store.called_at[0] >= PAUSE_S - 0.01


async def test_it_ends_when_it_is_told_to_though_the_cancellation_is_swallowed() -> None:
    store = SwallowingStore()
    limits = limits_of(store)
    telling = asyncio.create_task(limits.run())
    async with asyncio.timeout(DEADLINE_S):
        await store.asked.wait()
        telling.cancel()
        await asyncio.wait({telling})
    assert telling.done()


async def test_work_that_swallows_a_cancellation_is_cancelled_again() -> None:
    began, swallowed = asyncio.Event(), 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            began.set()
            try:
                await asyncio.sleep(DEADLINE_S)
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed += 1

    task = asyncio.create_task(work())
    await began.wait()
    async with asyncio.timeout(DEADLINE_S):
        await cancel(task, again_s=0.05)
    assert (task.cancelled(), swallowed) == (True, 1)


async def test_what_was_told_once_is_not_told_again_whatever_becomes_of_it() -> None:
    store = SwallowingStore()
    limits = limits_of(store)
    buckets = limits.buckets(VOTE_TOKEN)
    for _ in range(3):
        buckets.take("a", limits.now())
    telling = asyncio.create_task(limits.tell())
    await store.asked.wait()
    buckets.take("a", limits.now())  # while it is told
    telling.cancel()
    await telling
    again = asyncio.create_task(limits.tell())
    while len(store.told) < 2:
        await asyncio.sleep(0)
    again.cancel()
    await again
    interval_s = VOTE_TOKEN.interval_s
    assert [one.needs_s for one in store.told] == [3 * interval_s, interval_s]
