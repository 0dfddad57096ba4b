"""The inbox of webhooks in a real cell: kept before it is answered, each delivery handled by one at a time."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from domain.errors import DomainError, ErrorCode
from domain.webhook_inbox import BODY_MAX, Delivery, WaitingDelivery
from domain.webhooks import WebhookEvent
from integrations.keys.file_kms import FileKms
from integrations.keys.inbox import InboxSeal
from integrations.keys.purposes import INBOX
from integrations.postgres.webhook_inbox import PostgresWebhookInbox
from tests.conftest import OwnerPool

LEASE = timedelta(minutes=1)
AT = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def vendor() -> str:
    """A vendor of the test's own, since every test shares the inbox."""
    return f"vendor-{secrets.token_hex(6)}"


@pytest.fixture
def inbox(identity_pool: asyncpg.Pool, identity_keys: FileKms) -> PostgresWebhookInbox:
    return PostgresWebhookInbox(identity_pool, InboxSeal(identity_keys))


@pytest.fixture(autouse=True)
async def _alone(owner_pool: OwnerPool) -> None:
    """Hide what earlier tests left waiting, under keys of theirs."""
    await (await owner_pool("eu")).execute(
        "UPDATE identity.webhook SET taken_until = 'infinity' WHERE handled_at IS NULL"
    )


def delivery(vendor: str, number: int = 1, body: bytes = b'{"name":"Anna"}') -> Delivery:
    return Delivery(WebhookEvent(vendor, f"d-{number}", "r_eu_x-1", "applicantReviewed", AT), body)


def numbers(waiting: tuple[WaitingDelivery, ...]) -> list[str]:
    return [one.delivery.event.delivery_id for one in waiting]


async def test_a_delivery_is_new_once_and_handled_once(inbox: PostgresWebhookInbox, vendor: str) -> None:
    assert await inbox.store([delivery(vendor)]) == (True,)
    assert await inbox.store([delivery(vendor, body=b"altered"), delivery(vendor, 2)]) == (False, True)
    taken = await inbox.take(10, LEASE)
    assert [one.delivery for one in taken] == [delivery(vendor), delivery(vendor, 2)]
    assert await inbox.take(10, LEASE) == ()
    for _ in range(2):
        await inbox.handled(vendor, "d-1")
    assert await inbox.store([delivery(vendor)]) == (False,)


async def test_the_same_deliveries_brought_by_many_at_once_are_new_once(
    inbox: PostgresWebhookInbox, vendor: str
) -> None:
    batch = [delivery(vendor, number) for number in range(20)]
    told = await asyncio.gather(*(inbox.store(batch if n % 2 else batch[::-1]) for n in range(8)))
    assert sum(sum(one) for one in told) == 20
    assert await inbox.store([delivery(vendor, 99), delivery(vendor, 99)]) == (True, False)
    assert await inbox.store([]) == ()


async def test_many_who_take_at_once_never_have_the_same(inbox: PostgresWebhookInbox, vendor: str) -> None:
    await inbox.store([delivery(vendor, number) for number in range(30)])
    taken = await asyncio.gather(*(inbox.take(6, LEASE) for _ in range(8)))
    names = [name for waiting in taken for name in numbers(waiting)]
    assert len(names) == len(set(names))
    rest = numbers(await inbox.take(30, LEASE))
    assert sorted(names + rest) == sorted(f"d-{number}" for number in range(30))


async def test_what_nobody_finished_comes_back_after_what_is_new(inbox: PostgresWebhookInbox, vendor: str) -> None:
    await inbox.store([delivery(vendor, 1)])
    assert numbers(await inbox.take(1, timedelta(0))) == ["d-1"]
    await inbox.store([delivery(vendor, 2)])
    assert numbers(await inbox.take(1, LEASE)) == ["d-2"]
    (again,) = await inbox.take(1, LEASE)
    assert (again.delivery, again.attempts) == (delivery(vendor, 1), 2)


async def test_what_came_just_now_is_left_to_whom_it_came_to(inbox: PostgresWebhookInbox, vendor: str) -> None:
    await inbox.store([delivery(vendor)])
    assert await inbox.take(1, LEASE, older_than=timedelta(minutes=5)) == ()
    assert numbers(await inbox.take(1, LEASE)) == ["d-1"]


async def test_a_body_is_never_in_the_clear_and_gone_once_handled(
    inbox: PostgresWebhookInbox, vendor: str, owner_pool: OwnerPool, identity_keys: FileKms
) -> None:
    await inbox.store([delivery(vendor)])
    read = "SELECT body, key_id FROM identity.webhook WHERE vendor = $1"
    pool = await owner_pool("eu")
    row = await pool.fetchrow(read, vendor)
    assert row is not None
    assert b"Anna" not in row["body"]
    assert row["key_id"] == (await identity_keys.current(INBOX)).key_id
    await identity_keys.rotate(INBOX)
    assert [one.delivery.body for one in await inbox.take(1, LEASE)] == [b'{"name":"Anna"}']
    await inbox.handled(vendor, "d-1")
    row = await pool.fetchrow(read, vendor)
    assert row is not None
    assert row["body"] is None


async def test_a_body_is_bounded(inbox: PostgresWebhookInbox, vendor: str) -> None:
    assert await inbox.store([delivery(vendor, body=bytes(BODY_MAX))]) == (True,)
    with pytest.raises(DomainError) as refused:
        await inbox.store([delivery(vendor, 2, bytes(BODY_MAX + 1))])
    assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE


async def test_what_was_handled_long_ago_is_forgotten(
    inbox: PostgresWebhookInbox, vendor: str, owner_pool: OwnerPool
) -> None:
    await inbox.store([delivery(vendor, 1), delivery(vendor, 2), delivery(vendor, 3)])
    for name in ("d-1", "d-2"):
        await inbox.handled(vendor, name)
    aged = (
        "UPDATE identity.webhook SET handled_at = now() - interval '90 days' WHERE vendor = $1 AND delivery_id = 'd-1'"
    )
    await (await owner_pool("eu")).execute(aged, vendor)
    assert await inbox.forget(timedelta(days=60)) == 1
    assert await inbox.store([delivery(vendor, number) for number in (1, 2, 3)]) == (True, False, False)


async def test_an_inbox_that_is_away_says_so(closed_pool: asyncpg.Pool, identity_keys: FileKms, vendor: str) -> None:
    inbox = PostgresWebhookInbox(closed_pool, InboxSeal(identity_keys))
    calls = (inbox.store([delivery(vendor)]), inbox.take(1, LEASE), inbox.handled(vendor, "d"), inbox.forget(LEASE))
    for call in calls:
        with pytest.raises(DomainError) as away:
            await call
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
