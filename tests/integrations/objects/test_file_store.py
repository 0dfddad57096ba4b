import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.errors import DomainError, ErrorCode
from integrations.objects.file_store import FileObjectStore

NAME = "exports/s_a/x_b.csv"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise RuntimeError("the source ended early")


async def content(store: FileObjectStore, name: str = NAME) -> bytes:
    return b"".join([piece async for piece in store.read(name)])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_file_is_stored_with_its_digest(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    stored = await store.put(NAME, pieces(b"one,", b"", b"two" * 100_000))
    expected = b"one," + b"two" * 100_000
    assert await content(store) == expected
    assert (stored.name, stored.size_bytes) == (NAME, len(expected))
    assert stored.sha256 == hashlib.sha256(expected).digest()
    assert files(tmp_path) == [tmp_path / NAME]


async def test_the_first_file_of_a_name_stays(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    first = await store.put(NAME, pieces(b"first"))
    assert await store.put(NAME, pieces(b"second")) == first
    assert await content(store) == b"first"


async def test_many_at_once_agree_on_one_file(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    stored = await asyncio.gather(*(store.put(NAME, pieces(f"{n}".encode() * 1000)) for n in range(20)))
    assert len({found.sha256 for found in stored}) == 1
    assert hashlib.sha256(await content(store)).digest() == stored[0].sha256
    assert files(tmp_path) == [tmp_path / NAME]


async def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    with pytest.raises(RuntimeError):
        await store.put(NAME, broken(b"half"))
    assert files(tmp_path) == []
    with pytest.raises(DomainError) as refused:
        await content(store)
    assert refused.value.code is ErrorCode.OBJECTS_UNAVAILABLE


async def test_a_disk_that_refuses_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "exports").write_text("a file where a folder should be")
    with pytest.raises(DomainError) as refused:
        await FileObjectStore(tmp_path).put(NAME, pieces(b"x"))
    assert refused.value.code is ErrorCode.OBJECTS_UNAVAILABLE


@pytest.mark.parametrize("name", ["../x.csv", "/etc/x.csv", "a/../b.csv", "a", "", ".csv", "a b.csv", "A.csv"])
async def test_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        await FileObjectStore(tmp_path).put(name, pieces(b"x"))


async def test_a_file_is_taken_away_once_and_another_may_have_its_name(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    await store.put(NAME, pieces(b"first"))
    await asyncio.gather(*(store.remove(NAME) for _ in range(4)))
    await store.remove("exports/s_a/x_never.csv")
    assert files(tmp_path) == []
    await store.put(NAME, pieces(b"second"))
    assert await content(store) == b"second"
    with pytest.raises(ValueError, match="not an object's name"):
        await store.remove("../x")
