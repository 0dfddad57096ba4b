"""Keys in files: who may use them, how they are made at once, and that destroyed means gone."""

import asyncio
import stat
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from nacl.bindings import crypto_sign_seed_keypair

from domain.errors import DomainError, ErrorCode
from integrations.keys.file_kms import FileKms
from integrations.keys.key_ids import parse_key_id
from integrations.keys.opening import open_keys
from integrations.keys.purposes import EVIDENCE, KEK_ELIGIBILITY, VOTING_TOKEN, generate, in_flight, public
from integrations.keys.rotation import destroy_old_in_flight_keys
from integrations.settings import Environment, Settings

DAY = date(2026, 11, 23)
MAKER = """
import asyncio, sys
from pathlib import Path
from integrations.keys.file_kms import FileKms
key = asyncio.run(FileKms(Path(sys.argv[1]), frozenset({"voting-token"})).current("voting-token"))
print(key.key_id, key.secret.hex())
"""


async def code_of(awaitable: object) -> ErrorCode:
    with pytest.raises(DomainError) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code


async def test_first_use_makes_a_key_and_keeps_it(keys: FileKms) -> None:
    key = await keys.current(VOTING_TOKEN)
    assert len(key.secret) == 32
    assert await keys.current(VOTING_TOKEN) == key
    assert await keys.by_id(key.key_id) == key
    assert parse_key_id(key.key_id)[0] == VOTING_TOKEN


async def test_key_id_names_purpose_day_and_number(tmp_path: Path) -> None:
    keys = FileKms(tmp_path, frozenset({"in-flight"}), today=lambda: DAY)
    assert (await keys.current("in-flight/eu")).key_id == "in-flight/eu/2026-11-23/1"
    assert (await keys.rotate("in-flight/eu")).key_id == "in-flight/eu/2026-11-23/2"
    assert await keys.key_ids("in-flight/eu") == ("in-flight/eu/2026-11-23/1", "in-flight/eu/2026-11-23/2")


async def test_tenth_key_of_a_day_is_newer_than_the_ninth(tmp_path: Path) -> None:
    keys = FileKms(tmp_path, frozenset({VOTING_TOKEN}), today=lambda: DAY)
    for _ in range(10):
        newest = await keys.rotate(VOTING_TOKEN)
    assert await keys.current(VOTING_TOKEN) == newest
    assert list(await keys.public_keys(VOTING_TOKEN))[-1] == newest.key_id == f"{VOTING_TOKEN}/2026-11-23/10"


async def test_secrets_are_for_their_owner_only(keys: FileKms, tmp_path: Path) -> None:
    key = await keys.current(VOTING_TOKEN)
    path = tmp_path / "keys" / f"{key.key_id}.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, tmp_path / "keys"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["1.key", "1.pub"]


def test_processes_that_start_at_once_agree_on_the_first_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKER, str(tmp_path / "keys")]
    makers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    made = {maker.communicate(timeout=30)[0] for maker in makers}
    assert [maker.returncode for maker in makers] == [0] * 6
    assert len(made) == 1


async def test_tasks_that_ask_at_once_agree_on_the_first_key(keys: FileKms) -> None:
    found = await asyncio.gather(*(keys.current(EVIDENCE) for _ in range(50)))
    assert len(set(found)) == 1


async def test_rotations_at_once_lose_none(keys: FileKms) -> None:
    made = await asyncio.gather(*(keys.rotate(EVIDENCE) for _ in range(20)))
    assert len({key.key_id for key in made}) == 20
    assert set(await keys.key_ids(EVIDENCE)) == {key.key_id for key in made}
    for key in made:
        assert await keys.by_id(key.key_id) == key


async def test_public_keys_belong_to_the_secrets(keys: FileKms) -> None:
    first, second = await keys.current(EVIDENCE), await keys.rotate(EVIDENCE)
    assert await keys.public_keys(EVIDENCE) == {
        key.key_id: crypto_sign_seed_keypair(key.secret)[0] for key in (first, second)
    }


async def test_public_key_that_its_maker_did_not_come_to_write_is_written_by_the_next(
    keys: FileKms, tmp_path: Path
) -> None:
    key = await keys.current(EVIDENCE)
    (tmp_path / "keys" / f"{key.key_id}.pub").unlink()
    assert await keys.public_keys(EVIDENCE) == {}
    await keys.current(EVIDENCE)
    assert list(await keys.public_keys(EVIDENCE)) == [key.key_id]


async def test_a_process_may_use_its_own_purposes_only(keys: FileKms, tmp_path: Path) -> None:
    key = await keys.current(VOTING_TOKEN)
    other = FileKms(tmp_path / "keys", frozenset({EVIDENCE, public(VOTING_TOKEN)}))
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


async def test_a_permission_covers_whole_path_segments(tmp_path: Path) -> None:
    keys = FileKms(tmp_path, frozenset({"in-flight/eu"}))
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
async def test_what_is_no_key_id_is_refused(keys: FileKms, key_id: str) -> None:
    assert await code_of(keys.by_id(key_id)) is ErrorCode.KEY_UNAVAILABLE


async def test_unknown_key_is_unavailable_not_destroyed(keys: FileKms) -> None:
    assert await code_of(keys.by_id(f"{VOTING_TOKEN}/2020-01-01/1")) is ErrorCode.KEY_UNAVAILABLE
    assert await code_of(keys.destroy(f"{VOTING_TOKEN}/2020-01-01/1")) is ErrorCode.KEY_UNAVAILABLE


async def test_damaged_key_is_not_used(keys: FileKms, tmp_path: Path) -> None:
    key = await keys.current(VOTING_TOKEN)
    (tmp_path / "keys" / f"{key.key_id}.key").write_bytes(b"short")
    assert await code_of(keys.current(VOTING_TOKEN)) is ErrorCode.KEY_UNAVAILABLE


async def test_destroyed_key_is_gone_for_everyone_and_says_so(keys: FileKms, tmp_path: Path) -> None:
    key = await keys.current(VOTING_TOKEN)
    await keys.destroy(key.key_id)
    await keys.destroy(key.key_id)
    assert await code_of(keys.by_id(key.key_id)) is ErrorCode.KEY_DESTROYED
    assert await keys.public_keys(VOTING_TOKEN) == {}
    assert await keys.key_ids(VOTING_TOKEN) == ()
    left = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["1.destroyed"]
    assert left[0].read_bytes() == b""


async def test_after_a_destruction_comes_a_new_key_with_a_new_id(keys: FileKms) -> None:
    older = await keys.current(VOTING_TOKEN)
    newest = await keys.rotate(VOTING_TOKEN)
    await keys.destroy(newest.key_id)
    current = await keys.current(VOTING_TOKEN)
    assert current.key_id not in {older.key_id, newest.key_id}
    assert await keys.by_id(older.key_id) == older


async def test_data_key_opens_with_its_context_only(keys: FileKms) -> None:
    made = await keys.generate_data_key(KEK_ELIGIBILITY, "s_1")
    assert await keys.unwrap(made.wrapped, "s_1") == made.plaintext
    assert made.plaintext not in made.wrapped
    assert await code_of(keys.unwrap(made.wrapped, "s_2")) is ErrorCode.KEY_UNAVAILABLE


async def test_data_key_of_a_rotated_key_still_opens_until_it_is_destroyed(keys: FileKms) -> None:
    made = await keys.generate_data_key(KEK_ELIGIBILITY, "s_1")
    wrapping_key = (await keys.key_ids(KEK_ELIGIBILITY))[0]
    await keys.rotate(KEK_ELIGIBILITY)
    assert await keys.unwrap(made.wrapped, "s_1") == made.plaintext
    await keys.destroy(wrapping_key)
    assert await code_of(keys.unwrap(made.wrapped, "s_1")) is ErrorCode.KEY_DESTROYED


async def test_whoever_may_only_generate_never_sees_a_data_key(keys: FileKms, tmp_path: Path) -> None:
    maker = FileKms(tmp_path / "keys", frozenset({generate(KEK_ELIGIBILITY)}))
    made = await maker.generate_data_key(KEK_ELIGIBILITY, "s_1")
    assert made.plaintext == b""
    assert await code_of(maker.unwrap(made.wrapped, "s_1")) is ErrorCode.KEY_UNAVAILABLE
    assert await code_of(maker.current(KEK_ELIGIBILITY)) is ErrorCode.KEY_UNAVAILABLE
    assert len(await keys.unwrap(made.wrapped, "s_1")) == 32


@pytest.mark.parametrize("place", [0, 1, 5, 30, -20, -1])
async def test_a_changed_wrapped_key_does_not_open(keys: FileKms, place: int) -> None:
    wrapped = bytearray((await keys.generate_data_key(KEK_ELIGIBILITY, "s_1")).wrapped)
    wrapped[place] ^= 1
    assert await code_of(keys.unwrap(bytes(wrapped), "s_1")) is ErrorCode.KEY_UNAVAILABLE


@pytest.mark.parametrize("wrapped", [b"", b"\x01", b"\x01\xff", b"\x02" + bytes(100), b"\x01\x00" + bytes(60)])
async def test_what_is_no_wrapped_key_is_refused(keys: FileKms, wrapped: bytes) -> None:
    assert await code_of(keys.unwrap(wrapped, "s_1")) is ErrorCode.KEY_UNAVAILABLE


async def test_in_flight_keys_change_every_day_whoever_asks_first(tmp_path: Path) -> None:
    today = [DAY]
    keys = FileKms(tmp_path, frozenset({"in-flight", VOTING_TOKEN}), today=lambda: today[0])
    first, steady = await keys.current(in_flight("eu")), await keys.current(VOTING_TOKEN)
    today[0] += timedelta(days=1)
    found = await asyncio.gather(*(keys.current(in_flight("eu")) for _ in range(20)))
    assert {key.key_id for key in found} == {"in-flight/eu/2026-11-24/1"}
    assert await keys.by_id(first.key_id) == first
    assert await keys.current(VOTING_TOKEN) == steady


async def test_in_flight_keys_are_destroyed_after_three_days_unless_an_execution_needs_them(tmp_path: Path) -> None:
    today = [DAY]
    keys = FileKms(tmp_path, frozenset({"in-flight"}), today=lambda: today[0])
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


async def test_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keys = FileKms(tmp_path / "file", frozenset({VOTING_TOKEN}))
    assert await code_of(keys.current(VOTING_TOKEN)) is ErrorCode.KEY_UNAVAILABLE


def test_production_refuses_keys_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keys kept in a folder"):
        Settings(environment=Environment.PRODUCTION, keys_folder=tmp_path)
    with pytest.raises(LookupError, match="COMITIA_KEYS_FOLDER"):
        open_keys(Settings(environment=Environment.TEST, keys_folder=None), VOTING_TOKEN)
