"""Deliveries that come while others are stored, against an inbox that can be held up and made to fail."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from api.webhooks.grouping import GroupedStore
from domain.errors import DomainError, ErrorCode
from domain.webhook_inbox import Delivery
from domain.webhooks import WebhookEvent


def delivery(name: str) -> Delivery:
    return Delivery(WebhookEvent("vendor", name, "case", "kind", datetime.now(UTC)))


class HeldInbox:
    """Keeps what it is told in groups, each when it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.go = asyncio.Semaphore(0)
        self.failure: Exception | None = None

    async def store(self, deliveries: Sequence[Delivery]) -> tuple[bool, ...]:
        before = {name for group in self.groups for name in group}
        names = [each.event.delivery_id for each in deliveries]
        self.groups.append(names)
        await self.go.acquire()
        if self.failure is not None:
            raise self.failure
        return tuple(name not in before | set(names[:place]) for place, name in enumerate(names))


def waiting(store: GroupedStore, *names: str) -> list[asyncio.Task[bool]]:
    return [asyncio.create_task(store.store(delivery(name))) for name in names]


async def test_what_comes_meanwhile_is_stored_together_and_told_apart() -> None:
    inbox = HeldInbox()
    store = GroupedStore(inbox.store)
    first = waiting(store, "a")
    await asyncio.sleep(0.01)
    others = waiting(store, "b", "a", "c", "b")
    await asyncio.sleep(0.01)
    assert inbox.groups == [["a"]]
    assert store.waiting == 4
    assert not any(task.done() for task in (*first, *others))
    inbox.go.release()
    inbox.go.release()
    assert await asyncio.gather(*first, *others) == [True, True, False, True, False]
    assert inbox.groups == [["a"], ["b", "a", "c", "b"]]
    assert store.waiting == 0


async def test_a_failure_reaches_everybody_of_its_group_and_nobody_else() -> None:
    inbox = HeldInbox()
    store = GroupedStore(inbox.store)
    inbox.failure = DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
    first = waiting(store, "a")
    await asyncio.sleep(0.01)
    second = waiting(store, "b", "c")
    inbox.go.release()
    with pytest.raises(DomainError, match="directory_unavailable"):
        await first[0]
    inbox.failure = None
    inbox.go.release()
    assert await asyncio.gather(*second) == [True, True]


async def test_who_gives_up_takes_nobody_along() -> None:
    inbox = HeldInbox()
    store = GroupedStore(inbox.store)
    first = waiting(store, "a")
    await asyncio.sleep(0.01)
    gone, stays = waiting(store, "b", "c")
    await asyncio.sleep(0.01)
    first[0].cancel()
    gone.cancel()
    inbox.go.release()
    inbox.go.release()
    assert await stays
    assert inbox.groups == [["a"], ["c"]]
    await store.close()


async def test_too_many_are_told_to_come_again() -> None:
    inbox = HeldInbox()
    store = GroupedStore(inbox.store)
    tasks = waiting(store, *(str(number) for number in range(6_000)))
    await asyncio.sleep(0.1)
    refused = [task for task in tasks if task.done()]
    assert 0 < len(refused) <= 1_000
    for task in refused:
        with pytest.raises(DomainError, match="directory_unavailable"):
            task.result()
    for _ in range(20):
        inbox.go.release()
    kept = await asyncio.gather(*(task for task in tasks if task not in refused))
    assert all(kept)
    assert len(kept) == 6_000 - len(refused)
