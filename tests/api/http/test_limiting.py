"""The telling of limits, where the store misbehaves as its driver does."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from api.background import cancel
from api.http.limiting import CellLimits
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


async def test_it_ends_when_it_is_told_to_though_the_cancellation_is_swallowed() -> None:
    store = SwallowingStore()
    limits = CellLimits("eu", store, policies_with({}), LimitMetrics(CollectorRegistry()))
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
    limits = CellLimits("eu", store, policies_with({}), LimitMetrics(CollectorRegistry()))
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
