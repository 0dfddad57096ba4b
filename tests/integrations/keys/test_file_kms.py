"""Keys in files: who may read them, and what is left of a destroyed one."""

import stat
from pathlib import Path

import pytest

from domain.errors import DomainError, ErrorCode
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import VOTING_TOKEN


async def test_secrets_are_for_their_owner_only(keys: FileKms, tmp_path: Path) -> None:
    key = await keys.current(VOTING_TOKEN)
    path = tmp_path / "keys" / f"{key.key_id}.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, tmp_path / "keys"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["1.key", "1.pub"]


async def test_damaged_key_is_not_used(keys: FileKms, tmp_path: Path) -> None:
    key = await keys.current(VOTING_TOKEN)
    (tmp_path / "keys" / f"{key.key_id}.key").write_bytes(b"short")
    with pytest.raises(DomainError) as raised:
        await keys.current(VOTING_TOKEN)
    assert raised.value.code is ErrorCode.KEY_UNAVAILABLE


async def test_nothing_is_left_of_a_destroyed_key_but_its_tombstone(keys: FileKms, tmp_path: Path) -> None:
    key = await keys.current(VOTING_TOKEN)
    await keys.destroy(key.key_id)
    left = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["1.destroyed"]
    assert left[0].read_bytes() == b""


async def test_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keys = FileKms(tmp_path / "file", frozenset({VOTING_TOKEN}))
    with pytest.raises(DomainError) as raised:
        await keys.current(VOTING_TOKEN)
    assert raised.value.code is ErrorCode.KEY_UNAVAILABLE


async def test_a_destruction_that_was_cut_short_is_one_and_is_finished_by_the_next(
    keys: FileKms, tmp_path: Path
) -> None:
    key = await keys.current(VOTING_TOKEN)
    path = tmp_path / "keys" / key.key_id
    path.with_name("1.destroyed").touch()  # and then its destroyer was killed
    with pytest.raises(DomainError) as raised:
        await keys.by_id(key.key_id)
    assert raised.value.code is ErrorCode.KEY_DESTROYED
    assert await keys.public_keys(VOTING_TOKEN) == {}
    await keys.destroy(key.key_id)
    assert [left.name for left in path.parent.iterdir()] == ["1.destroyed"]
