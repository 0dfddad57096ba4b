"""The object store in a folder: a file is there as a whole or not at all, and never changes."""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.contracts.exports import StoredObject
from domain.errors import DomainError, ErrorCode

_ELEMENT = r"[a-z0-9_]+(?:\.[a-z]+)?"  # none begins with a dot: what is unfinished lies apart
_NAME = re.compile(rf"[a-z0-9_]+\.[a-z]+|{_ELEMENT}(?:/{_ELEMENT})+")
_FOLDER = re.compile(rf"{_ELEMENT}(?:/{_ELEMENT})*")
_PIECE_BYTES = 64 * 1024
_UNFINISHED = ".unfinished"


class FileObjectStore:
    """Implements `ExportObjects` and `LockedObjects` for one machine; names look like `exports/s_abc/x_def.csv`.

    It keeps who uses it from changing a file, not who has the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        """Store a file as a whole or not at all; of a name that is there already the first file stays.

        Durable when this returns: the file and its name are synced to the disk.

        Raises:
            DomainError: `objects_unavailable`.
        """
        target = self._path(name)
        unfinished = self._folder / _UNFINISHED / secrets.token_hex(16)
        try:
            with _unavailable():
                await asyncio.to_thread(_make_folders, target.parent, unfinished.parent)
                file = await asyncio.to_thread(unfinished.open, "xb")
            with file:
                async for piece in pieces:
                    with _unavailable():
                        await asyncio.to_thread(file.write, piece)
                with _unavailable():
                    await asyncio.to_thread(_sync, file.fileno(), file.flush)
            with _unavailable():
                await asyncio.to_thread(_name_once, unfinished, target)
                return await asyncio.to_thread(_describe, name, target)
        finally:
            await asyncio.to_thread(unfinished.unlink, missing_ok=True)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Return the pieces of a stored file.

        Raises:
            DomainError: `objects_unavailable`, also where it is not there.
        """
        with _unavailable():
            file = await asyncio.to_thread(self._path(name).open, "rb")
        with file:
            while True:
                with _unavailable():
                    piece = await asyncio.to_thread(file.read, _PIECE_BYTES)
                if not piece:
                    return
                yield piece

    async def remove(self, name: str) -> None:
        """Take a file away, where it is there; durable when this returns.

        Raises:
            DomainError: `objects_unavailable`.
        """
        with _unavailable():
            await asyncio.to_thread(_unname, self._path(name))

    async def require_lock(self) -> None:
        """Say nothing: a folder locks nothing, and is for one machine."""

    async def names(self, folder: str) -> list[str]:
        """Return the names directly in a folder, files and folders, sorted; none where there is no such folder.

        Raises:
            DomainError: `objects_unavailable`.
        """
        if not _FOLDER.fullmatch(folder):
            raise ValueError(f"not a folder's name: {folder!r}")
        with _unavailable():
            return sorted(await asyncio.to_thread(_listed, self._folder / folder))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not an object's name: {name!r}")
        return self._folder / name


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DomainError(ErrorCode.OBJECTS_UNAVAILABLE, type(error).__name__) from error


def _listed(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def _sync(descriptor: int, flush: object) -> None:
    assert callable(flush)
    flush()
    os.fsync(descriptor)


def _name_once(unfinished: Path, target: Path) -> None:
    """Give a finished file its name unless another has it; the name is durable afterwards."""
    try:
        os.link(unfinished, target)
    except FileExistsError:
        return
    _sync_folder(target.parent)


def _unname(target: Path) -> None:
    try:
        target.unlink()
    except FileNotFoundError:
        return
    _sync_folder(target.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _describe(name: str, path: Path) -> StoredObject:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return StoredObject(name=name, size_bytes=os.fstat(file.fileno()).st_size, sha256=digest)
