"""A log that grows while it is copied: what arrives is good, however far the sealing is meanwhile."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from comitia.log_copy import LogFolder, copy_log
from domain.contracts.exports import StoredObject
from domain.log_verification import verify_log
from integrations.keys.signing import is_signed
from integrations.objects.file_store import FileObjectStore
from tests.log_world import KEYS, leaf, sealed_files

LEAVES = [leaf(number) for number in range(600)]


class Growing:
    """A store in which the sealing takes its next step before a call is answered, the `at`th of those that read."""

    def __init__(self, store: FileObjectStore, at: int) -> None:
        self._store = store
        self._left = at

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        return await self._store.put(name, pieces)

    async def require_lock(self) -> None:
        await self._store.require_lock()

    async def names(self, folder: str) -> Sequence[str]:
        await self._grow()
        return await self._store.names(folder)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        await self._grow()
        async for piece in self._store.read(name):
            yield piece

    async def _grow(self) -> None:
        self._left -= 1
        if self._left == 0:
            await seal(self._store, (300, 600))


async def seal(store: FileObjectStore, sizes: Sequence[int]) -> None:
    for path, content in sealed_files(LEAVES, sizes).items():
        await store.put(f"logs/eu/{path}", _piece(content))


async def _piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.mark.parametrize("at", range(1, 17))
async def test_a_log_that_grows_while_it_is_copied_arrives_good(tmp_path: Path, at: int) -> None:
    store = FileObjectStore(tmp_path / "objects")
    await seal(store, (300,))
    await copy_log(Growing(store, at), "eu", tmp_path / "copy")
    checks, newest = verify_log(LogFolder(tmp_path / "copy"), KEYS, is_signed)
    assert [check for check in checks if not check.holds] == []
    assert newest is not None
    assert newest.size >= 300
    await copy_log(store, "eu", tmp_path / "copy")
    checks, newest = verify_log(LogFolder(tmp_path / "copy"), KEYS, is_signed)
    assert [check for check in checks if not check.holds] == []
    assert newest is not None
    assert newest.size == 600
