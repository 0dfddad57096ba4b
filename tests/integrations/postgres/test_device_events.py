"""Device events in a real cell: each is used by one request, however often and whoever brings it."""

import asyncio
import secrets

import asyncpg
import pytest

from domain.errors import DomainError, ErrorCode
from integrations.postgres.device_events import PostgresDeviceEvents
from tests.conftest import OwnerPool


def event() -> str:
    return f"1790000000000.{secrets.token_hex(3)}"


@pytest.fixture
def events(identity_pool: asyncpg.Pool) -> PostgresDeviceEvents:
    return PostgresDeviceEvents(identity_pool)


async def test_an_event_is_good_for_one_request_and_its_repetitions(events: PostgresDeviceEvents) -> None:
    first = event()
    assert [await events.use(first, request) for request in ("a", "a", "b", "a")] == [True, True, False, True]
    assert await events.use(event(), "b")


async def test_of_many_at_once_one_has_used_it(events: PostgresDeviceEvents) -> None:
    for _ in range(5):
        contested = event()
        told = await asyncio.gather(*(events.use(contested, f"request {number}") for number in range(8)))
        assert told.count(True) == 1


async def test_what_is_kept_leads_to_no_event_and_not_for_long(
    events: PostgresDeviceEvents, owner_pool: OwnerPool
) -> None:
    old, new, owner = event(), event(), await owner_pool("eu")
    request = f"request {secrets.token_hex(4)}"
    for each in (old, new):
        await events.use(each, request)
    rows = await owner.fetch("SELECT * FROM identity.device_event WHERE used_for = $1", request)
    assert len(rows) == 2
    assert old not in str(rows)
    await owner.execute(
        "UPDATE identity.device_event SET used_at = now() - interval '2 hours' WHERE event_hash = sha256($1::bytea)",
        old.encode(),
    )
    assert await events.forget_older() >= 1
    assert await events.use(old, "another")
    assert not await events.use(new, "another")


async def test_events_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    events = PostgresDeviceEvents(closed_pool)
    for call in (events.use(event(), "a"), events.forget_older()):
        with pytest.raises(DomainError) as away:
            await call
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
