"""Devices and accounts in a real cell, correlated by keyed hash under every version."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from domain.accounts import KeyedHash
from domain.device_sightings import DeviceCorrelation
from domain.errors import DomainError, ErrorCode
from domain.ids import new_voter_id
from integrations.postgres.device_sightings import PostgresDeviceSightings
from tests.conftest import OwnerPool

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MONTH_AGO = NOW - timedelta(days=30)


def device(versions: int = 2) -> tuple[KeyedHash, ...]:
    return tuple(KeyedHash(f"lookup/2026-11-2{number}/1", secrets.token_bytes(32)) for number in range(versions))


@pytest.fixture
def sightings(identity_pool: asyncpg.Pool) -> PostgresDeviceSightings:
    return PostgresDeviceSightings(identity_pool)


async def test_an_account_on_a_device_is_noted_once(sightings: PostgresDeviceSightings) -> None:
    laptop, voter = device(), new_voter_id("eu")
    assert await sightings.correlate(laptop, voter, MONTH_AGO) == DeviceCorrelation(0, 0)
    for _ in range(2):
        await sightings.note(laptop, voter, NOW)
    assert await sightings.correlate(laptop, voter, MONTH_AGO) == DeviceCorrelation(1, 1, known=True)


async def test_many_sightings_at_once_in_any_order_keep_first_and_last(
    sightings: PostgresDeviceSightings, owner_pool: OwnerPool
) -> None:
    laptop, voter = device(), new_voter_id("eu")
    hours = [3, 1, 7, 5, 2]
    await asyncio.gather(*(sightings.note(laptop, voter, NOW + timedelta(hours=hour)) for hour in hours * 3))
    rows = await (await owner_pool("eu")).fetch(
        "SELECT first_seen, last_seen FROM identity.device_sighting WHERE voter_id = $1", voter
    )
    assert [tuple(row) for row in rows] == [(NOW + timedelta(hours=1), NOW + timedelta(hours=7))] * 2


async def test_the_newest_flags_of_a_device_stand_in_whatever_order_they_come(
    sightings: PostgresDeviceSightings, owner_pool: OwnerPool
) -> None:
    laptop, voter = device(), new_voter_id("eu")
    for hours, flags in ((1, ["rooted"]), (3, ["vpn", "incognito"]), (2, ["emulator"])):
        await sightings.note(laptop, voter, NOW + timedelta(hours=hours), flags)
    rows = "SELECT flags FROM identity.device_sighting WHERE voter_id = $1"
    owner = await owner_pool("eu")
    assert [row["flags"] for row in await owner.fetch(rows, voter)] == [["incognito", "vpn"]] * 2
    await sightings.note(laptop, voter, NOW + timedelta(hours=4))
    assert [row["flags"] for row in await owner.fetch(rows, voter)] == [[]] * 2


async def test_many_accounts_on_one_device_are_counted_and_named(sightings: PostgresDeviceSightings) -> None:
    laptop, voters = device(), [new_voter_id("eu") for _ in range(25)]
    for place, voter in enumerate(voters):
        await sightings.note(laptop, voter, NOW + timedelta(minutes=place))
    found = await sightings.correlate(laptop, voters[0], MONTH_AGO)
    assert (found.accounts_on_device, found.devices_of_account) == (25, 1)
    assert found.others == tuple(reversed(voters))[:20]
    lately = await sightings.correlate(laptop, voters[0], NOW + timedelta(minutes=20))
    assert (lately.accounts_on_device, lately.devices_of_account) == (5, 0)


async def test_many_devices_of_one_account_are_counted_once_under_any_number_of_versions(
    sightings: PostgresDeviceSightings,
) -> None:
    voter, devices = new_voter_id("eu"), [device(3) for _ in range(4)]
    for place, laptop in enumerate(devices):
        await sightings.note(laptop[: 1 + place % 3], voter, NOW)  # as versions were made in between
    assert (await sightings.correlate(devices[0], voter, MONTH_AGO)).devices_of_account == 4


async def test_accounts_seen_under_different_versions_meet(sightings: PostgresDeviceSightings) -> None:
    laptop, first, second = device(3), new_voter_id("eu"), new_voter_id("eu")
    await sightings.note(laptop[:1], first, NOW)
    await sightings.note(laptop, second, NOW)
    assert (await sightings.correlate(laptop, second, MONTH_AGO)).others == (first,)


async def test_an_account_and_old_sightings_are_forgotten(sightings: PostgresDeviceSightings) -> None:
    laptop, gone, old, kept = device(), new_voter_id("eu"), new_voter_id("eu"), new_voter_id("eu")
    for voter, at in ((gone, NOW), (old, datetime(2020, 1, 1, tzinfo=UTC)), (kept, datetime.now(UTC))):
        await sightings.note(laptop, voter, at)
    for _ in range(2):
        await sightings.forget(gone)
    assert await sightings.forget_older(timedelta(days=1000)) >= 2
    found = await sightings.correlate(laptop, kept, datetime(2019, 1, 1, tzinfo=UTC))
    assert found == DeviceCorrelation(1, 1, known=True)


async def test_sightings_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    sightings, voter = PostgresDeviceSightings(closed_pool), new_voter_id("eu")
    for call in (
        sightings.note(device(), voter, NOW),
        sightings.correlate(device(), voter, NOW),
        sightings.forget(voter),
        sightings.forget_older(timedelta(days=1000)),
    ):
        with pytest.raises(DomainError) as away:
            await call
        assert away.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
