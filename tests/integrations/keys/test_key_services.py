"""What holds of every key service: who may use keys, how they are made at once, and that destroyed means gone."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from nacl.bindings import crypto_sign_seed_keypair

from domain.errors import DomainError, ErrorCode
from domain.ports import KeyMaterial
from integrations.keys.key_ids import is_key_of, parse_key_id
from integrations.keys.key_service import KeyService
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    EVIDENCE,
    KEK_ELIGIBILITY,
    STAFF_TOKEN,
    VOTING_TOKEN,
    generate,
    in_flight,
    manage,
    public,
)
from integrations.keys.rotation import destroy_old_in_flight_keys
from tests.integrations.keys.places import Folder, Place, key_servers

DAY = date(2026, 11, 23)
MAKER = """
import asyncio
from integrations.keys.opening import open_keys
from integrations.settings import Settings
key = asyncio.run(open_keys(Settings(), "voting-token").current("voting-token"))
print(key.key_id, key.secret.hex())
"""
ROTATOR = """
import asyncio
from integrations.keys.opening import open_keys
from integrations.settings import Settings
async def rotate():
    keys = open_keys(Settings(), "evidence")
    while True:
        print((await keys.rotate("evidence")).key_id, flush=True)
asyncio.run(rotate())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["folder", "kms"])
async def places(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Callable[[], Place]]:
    folder: Path = tmp_path_factory.mktemp("places")
    if request.param == "folder":
        yield lambda: Folder(folder / secrets.token_hex(6))
        return
    async with key_servers(folder) as servers:
        yield servers.bucket


@pytest.fixture
def place(places: Callable[[], Place]) -> Place:
    return places()


@pytest.fixture
def keys(place: Place) -> KeyService:
    return place.open(VOTING_TOKEN, STAFF_TOKEN, EVIDENCE, KEK_ELIGIBILITY, "in-flight")


async def code_of(awaitable: object) -> ErrorCode:
    with pytest.raises(DomainError) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code


async def test_first_use_makes_a_key_and_keeps_it(keys: KeyService) -> None:
    key = await keys.current(VOTING_TOKEN)
    assert len(key.secret) == 32
    assert await keys.current(VOTING_TOKEN) == key
    assert await keys.by_id(key.key_id) == key
    assert parse_key_id(key.key_id)[0] == VOTING_TOKEN


async def test_key_id_names_purpose_day_and_number(place: Place) -> None:
    keys = place.open("in-flight", today=lambda: DAY)
    assert (await keys.current("in-flight/eu")).key_id == "in-flight/eu/2026-11-23/1"
    assert (await keys.rotate("in-flight/eu")).key_id == "in-flight/eu/2026-11-23/2"
    assert await keys.key_ids("in-flight/eu") == ("in-flight/eu/2026-11-23/1", "in-flight/eu/2026-11-23/2")


async def test_tenth_key_of_a_day_is_newer_than_the_ninth(place: Place) -> None:
    keys = place.open(VOTING_TOKEN, today=lambda: DAY)
    for _ in range(10):
        newest = await keys.rotate(VOTING_TOKEN)
    assert await keys.current(VOTING_TOKEN) == newest
    assert list(await keys.public_keys(VOTING_TOKEN))[-1] == newest.key_id == f"{VOTING_TOKEN}/2026-11-23/10"


def test_processes_that_start_at_once_agree_on_the_first_key(place: Place) -> None:
    own = {**os.environ, "COMITIA_ENVIRONMENT": "test", **place.variables}
    command = [sys.executable, "-c", MAKER]
    makers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) for _ in range(6)]
    made = {maker.communicate(timeout=60)[0] for maker in makers}
    assert [maker.returncode for maker in makers] == [0] * 6
    assert len(made) == 1


async def test_tasks_that_ask_at_once_agree_on_the_first_key(keys: KeyService) -> None:
    found = await asyncio.gather(*(keys.current(EVIDENCE) for _ in range(50)))
    assert len(set(found)) == 1


async def test_rotations_at_once_lose_none(keys: KeyService) -> None:
    made = await asyncio.gather(*(keys.rotate(EVIDENCE) for _ in range(20)))
    assert len({key.key_id for key in made}) == 20
    assert set(await keys.key_ids(EVIDENCE)) == {key.key_id for key in made}
    for key in made:
        assert await keys.by_id(key.key_id) == key


async def test_public_keys_belong_to_the_secrets(keys: KeyService) -> None:
    first, second = await keys.current(EVIDENCE), await keys.rotate(EVIDENCE)
    assert await keys.public_keys(EVIDENCE) == {
        key.key_id: crypto_sign_seed_keypair(key.secret)[0] for key in (first, second)
    }


async def test_a_process_may_use_its_own_purposes_only(keys: KeyService, place: Place) -> None:
    key = await keys.current(VOTING_TOKEN)
    other = place.open(EVIDENCE, public(VOTING_TOKEN))
    for refused in (
        other.current(VOTING_TOKEN),
        other.by_id(key.key_id),
        other.rotate(VOTING_TOKEN),
        other.destroy(key.key_id),
        other.key_ids(VOTING_TOKEN),
        other.generate_data_key(KEK_ELIGIBILITY, "s_1"),
        other.public_keys(KEK_ELIGIBILITY),
    ):
        assert await code_of(refused) is ErrorCode.KEY_UNAVAILABLE
    assert list(await other.public_keys(VOTING_TOKEN)) == [key.key_id]


async def test_a_permission_covers_whole_path_segments(place: Place) -> None:
    keys = place.open("in-flight/eu")
    await keys.current("in-flight/eu")
    for purpose in ("in-flight/us", "in-flight", "in-flight/eu2", "in-flight/eu/../us", "", "/", "IN-FLIGHT/EU"):
        assert await code_of(keys.current(purpose)) is ErrorCode.KEY_UNAVAILABLE


@pytest.mark.parametrize(
    "key_id",
    [
        "voting-token",
        "voting-token/2026-11-23",
        "voting-token/2026-11-23/0",
        "voting-token/2026-13-23/1",
        "voting-token/2026-11-23/../../../evidence/2026-11-23/1",
        "voting-token/2026-11-23/1\n",
        "../voting-token/2026-11-23/1",
    ],
)
async def test_what_is_no_key_id_is_refused(keys: KeyService, key_id: str) -> None:
    assert await code_of(keys.by_id(key_id)) is ErrorCode.KEY_UNAVAILABLE


async def test_unknown_key_is_unavailable_not_destroyed(keys: KeyService) -> None:
    assert await code_of(keys.by_id(f"{VOTING_TOKEN}/2020-01-01/1")) is ErrorCode.KEY_UNAVAILABLE
    assert await code_of(keys.destroy(f"{VOTING_TOKEN}/2020-01-01/1")) is ErrorCode.KEY_UNAVAILABLE


async def test_after_a_destruction_comes_a_new_key_with_a_new_id(keys: KeyService) -> None:
    older = await keys.current(VOTING_TOKEN)
    newest = await keys.rotate(VOTING_TOKEN)
    await keys.destroy(newest.key_id)
    current = await keys.current(VOTING_TOKEN)
    assert current.key_id not in {older.key_id, newest.key_id}
    assert await keys.by_id(older.key_id) == older


async def test_data_key_opens_with_its_context_only(keys: KeyService) -> None:
    made = await keys.generate_data_key(KEK_ELIGIBILITY, "s_1")
    assert await keys.unwrap(made.wrapped, "s_1") == made.plaintext
    assert made.plaintext not in made.wrapped
    assert await code_of(keys.unwrap(made.wrapped, "s_2")) is ErrorCode.KEY_UNAVAILABLE


async def test_data_key_of_a_rotated_key_still_opens_until_it_is_destroyed(keys: KeyService) -> None:
    made = await keys.generate_data_key(KEK_ELIGIBILITY, "s_1")
    wrapping_key = (await keys.key_ids(KEK_ELIGIBILITY))[0]
    await keys.rotate(KEK_ELIGIBILITY)
    assert await keys.unwrap(made.wrapped, "s_1") == made.plaintext
    await keys.destroy(wrapping_key)
    assert await code_of(keys.unwrap(made.wrapped, "s_1")) is ErrorCode.KEY_DESTROYED


async def test_whoever_may_only_generate_never_sees_a_data_key(keys: KeyService, place: Place) -> None:
    maker = place.open(generate(KEK_ELIGIBILITY))
    made = await maker.generate_data_key(KEK_ELIGIBILITY, "s_1")
    assert made.plaintext == b""
    assert await code_of(maker.unwrap(made.wrapped, "s_1")) is ErrorCode.KEY_UNAVAILABLE
    assert await code_of(maker.current(KEK_ELIGIBILITY)) is ErrorCode.KEY_UNAVAILABLE
    assert len(await keys.unwrap(made.wrapped, "s_1")) == 32


@pytest.mark.parametrize("at", [0, 1, 5, 30, -20, -1])
async def test_a_changed_wrapped_key_does_not_open(keys: KeyService, at: int) -> None:
    wrapped = bytearray((await keys.generate_data_key(KEK_ELIGIBILITY, "s_1")).wrapped)
    wrapped[at] ^= 1
    assert await code_of(keys.unwrap(bytes(wrapped), "s_1")) is ErrorCode.KEY_UNAVAILABLE


@pytest.mark.parametrize("wrapped", [b"", b"\x01", b"\x01\xff", b"\x02" + bytes(100), b"\x01\x00" + bytes(60)])
async def test_what_is_no_wrapped_key_is_refused(keys: KeyService, wrapped: bytes) -> None:
    assert await code_of(keys.unwrap(wrapped, "s_1")) is ErrorCode.KEY_UNAVAILABLE


async def test_in_flight_keys_change_every_day_whoever_asks_first(place: Place) -> None:
    today = [DAY]
    keys = place.open("in-flight", VOTING_TOKEN, today=lambda: today[0])
    first, steady = await keys.current(in_flight("eu")), await keys.current(VOTING_TOKEN)
    today[0] += timedelta(days=1)
    found = await asyncio.gather(*(keys.current(in_flight("eu")) for _ in range(20)))
    assert {key.key_id for key in found} == {"in-flight/eu/2026-11-24/1"}
    assert await keys.by_id(first.key_id) == first
    assert await keys.current(VOTING_TOKEN) == steady


async def test_in_flight_keys_are_destroyed_after_three_days_unless_an_execution_needs_them(place: Place) -> None:
    today = [DAY]
    keys = place.open("in-flight", today=lambda: today[0])
    for _ in range(6):
        await keys.current(in_flight("eu"))
        today[0] += timedelta(days=1)
    today[0] -= timedelta(days=1)
    needed = {"in-flight/eu/2026-11-24/1"}

    async def is_needed(key_id: str) -> bool:
        return key_id in needed

    assert await destroy_old_in_flight_keys(keys, "eu", today[0], is_needed) == (
        "in-flight/eu/2026-11-23/1",
        "in-flight/eu/2026-11-25/1",
    )
    needed.clear()
    assert await destroy_old_in_flight_keys(keys, "eu", today[0], is_needed) == ("in-flight/eu/2026-11-24/1",)
    assert await destroy_old_in_flight_keys(keys, "eu", today[0], is_needed) == ()
    assert len(await keys.key_ids(in_flight("eu"))) == 3


async def test_a_key_that_its_maker_published_nothing_of_is_published_by_the_next(place: Place) -> None:
    key = await place.open(EVIDENCE).current(EVIDENCE)
    place.lose_public_key(key.key_id)  # as where its maker was killed between the two
    reader = place.open(public(EVIDENCE))
    assert await reader.public_keys(EVIDENCE) == {}
    assert await place.open(EVIDENCE).current(EVIDENCE) == key
    assert list(await reader.public_keys(EVIDENCE)) == [key.key_id]


def test_whoever_is_killed_while_it_makes_keys_leaves_whole_ones(place: Place) -> None:
    own = {**os.environ, "COMITIA_ENVIRONMENT": "test", **place.variables}
    command = [sys.executable, "-c", ROTATOR]
    makers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) for _ in range(4)]
    said = []
    for maker in makers:
        assert maker.stdout is not None
        said.append(maker.stdout.readline().strip())  # it is in the middle of the next one
        maker.kill()
        said += maker.communicate(timeout=60)[0].split()
    asyncio.run(_all_are_whole(place.open(EVIDENCE), {key_id for key_id in said if is_key_of(key_id, EVIDENCE)}))


async def _all_are_whole(keys: KeyService, at_least: set[str]) -> None:
    found = await keys.key_ids(EVIDENCE)
    assert at_least <= set(found)
    secret = {key_id: (await keys.by_id(key_id)).secret for key_id in found}
    assert await keys.public_keys(EVIDENCE) == {
        key_id: crypto_sign_seed_keypair(each)[0] for key_id, each in secret.items()
    }


async def test_destroyed_key_is_gone_for_everyone_and_says_so(place: Place) -> None:
    keys = place.open(VOTING_TOKEN)
    key = await keys.current(VOTING_TOKEN)
    await keys.destroy(key.key_id)
    await keys.destroy(key.key_id)
    for each in (keys, place.open(VOTING_TOKEN)):
        assert await code_of(each.by_id(key.key_id)) is ErrorCode.KEY_DESTROYED
        assert await each.public_keys(VOTING_TOKEN) == {}
        assert await each.key_ids(VOTING_TOKEN) == ()


async def test_whoever_reads_while_a_key_is_destroyed_gets_the_key_or_hears_of_it(place: Place) -> None:
    keys = place.open(VOTING_TOKEN)
    key = await keys.current(VOTING_TOKEN)
    found: list[KeyMaterial | ErrorCode] = []

    async def read_until_destroyed() -> None:
        while found[-1:] != [ErrorCode.KEY_DESTROYED]:
            try:
                found.append(await place.open(VOTING_TOKEN).by_id(key.key_id))
            except DomainError as error:
                found.append(error.code)

    readers = [asyncio.create_task(read_until_destroyed()) for _ in range(4)]
    while len(found) < 20:
        await asyncio.sleep(0.005)
    await asyncio.gather(keys.destroy(key.key_id), place.open(VOTING_TOKEN).destroy(key.key_id))
    await asyncio.gather(*readers)
    assert set(found) == {key, ErrorCode.KEY_DESTROYED}


async def test_whoever_may_only_manage_sees_no_key(place: Place) -> None:
    manager = place.open(manage(ACCESS_TOKEN), manage(KEK_ELIGIBILITY))
    made = await manager.rotate(ACCESS_TOKEN)
    assert made.secret == b""
    assert await code_of(manager.by_id(made.key_id)) is ErrorCode.KEY_UNAVAILABLE
    keys = place.open(ACCESS_TOKEN, KEK_ELIGIBILITY)
    assert len((await keys.by_id(made.key_id)).secret) == 32
    data_key = await keys.generate_data_key(KEK_ELIGIBILITY, "s_1")
    await manager.rotate(KEK_ELIGIBILITY)
    rewrapped = await manager.rewrap(data_key.wrapped, "s_1")
    assert await manager.rewrap(rewrapped, "s_1") == rewrapped != data_key.wrapped
    assert await place.open(KEK_ELIGIBILITY).unwrap(rewrapped, "s_1") == data_key.plaintext


async def test_a_purpose_has_none_of_the_keys_of_what_is_under_it(place: Place) -> None:
    keys = place.open("in-flight")
    below = await keys.current(in_flight("eu"))
    assert await keys.key_ids("in-flight") == ()
    assert await keys.key_ids(in_flight("eu")) == (below.key_id,)
