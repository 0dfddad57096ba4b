"""A rush of webhooks: all are kept and answered, and few are told at once: nobody waits for the telling."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from api.webhooks.intake import WebhookIntake
from domain.ids import new_registration_id, proofing_case_id
from domain.webhook_inbox import Delivery
from domain.webhooks import WebhookEvent

CASE = proofing_case_id(new_registration_id("eu"), 1)


class Vendor:
    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        return WebhookEvent("vendor", body.decode(), CASE, "kind", datetime.now(UTC))


class HeldCell:
    """Keeps at once, and tells when it is let go."""

    def __init__(self) -> None:
        self.inbox = self
        self.kept: list[str] = []
        self.telling = 0
        self.told: list[str] = []
        self.go = asyncio.Event()

    async def store(self, deliveries: Sequence[Delivery]) -> tuple[bool, ...]:
        names = [each.event.delivery_id for each in deliveries]
        new = tuple(name not in self.kept for name in names)
        self.kept += names
        return new

    async def deliver(self, event: WebhookEvent) -> bool:
        self.telling += 1
        await self.go.wait()
        self.telling -= 1
        self.told.append(event.delivery_id)
        return True


async def test_a_rush_is_kept_and_answered_while_few_are_told() -> None:
    cell: Any = HeldCell()
    waiting: dict[str, Callable[[], float]] = {}
    intake = WebhookIntake({"vendor": Vendor()}, lambda _name: cell, waiting.__setitem__)
    names = [str(number) for number in range(200)]
    async with asyncio.timeout(10):
        assert all(await asyncio.gather(*(intake.take("vendor", {}, name.encode()) for name in names)))
    assert sorted(cell.kept) == sorted(names)
    assert [read() for read in waiting.values()] == [0]
    await asyncio.sleep(0)
    assert 0 < cell.telling <= 16
    told = cell.telling
    cell.go.set()
    async with asyncio.timeout(10):
        while cell.telling:
            await asyncio.sleep(0)
        assert len(cell.told) == told  # the others wait in the inbox
        assert await intake.take("vendor", {}, b"later")
        while "later" not in cell.told:
            await asyncio.sleep(0)
    await intake.close()


async def test_what_comes_again_is_answered_and_not_told_again() -> None:
    cell: Any = HeldCell()
    cell.go.set()
    intake = WebhookIntake({"vendor": Vendor()}, lambda _name: cell)
    async with asyncio.timeout(10):
        assert [await intake.take("vendor", {}, b"one") for _ in range(3)] == [True, False, False]
        assert await intake.take("vendor", {}, b"last")
        while "last" not in cell.told:
            await asyncio.sleep(0)
    assert cell.told == ["one", "last"]
    await intake.close()
