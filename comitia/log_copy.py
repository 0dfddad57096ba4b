"""A copy of an audit log in a folder: taken, read, and compared with the database that its entries were written in."""

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from domain.audit import ENTRY_MAX
from domain.audit_log import CHECKPOINTS, NEWEST, LeafEntry, checkpoint_path, entries_of, log_folder
from domain.audit_ports import LockedObjects
from domain.log_verification import LogFiles, checkpoint_sizes
from domain.merkle_tiles import TILE_WIDTH, tile_of
from domain.pieces import joined
from domain.verification import Check
from integrations.postgres.audit_sequence import PostgresAuditSequence

_FILE_MAX: Final = TILE_WIDTH * (2 + ENTRY_MAX)  # bytes: a bundle of the longest entries, each behind its length


class LogFolder:
    """Implements `LogFiles` over a folder, which may have come from anywhere."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str) -> bytes | None:
        """Return a file, or None where there is none, or something that is none: a pipe or device has no end.

        Of what is larger than any file of a log can be, only so much is read: it is none of a log's then either.
        """
        place = self._folder / path
        try:
            if not place.is_file():
                return None
            with place.open("rb") as file:
                return file.read(_FILE_MAX + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, folder: str) -> list[str]:
        """Return what is directly in a folder, sorted; nothing where there is no such folder."""
        try:
            return sorted(path.name for path in (self._folder / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


async def copy_log(objects: LockedObjects, log: str, target: Path) -> int:
    """Copy what the folder does not have yet, tree heads last; return how many files that were. Safe to repeat.

    Heads are listed before tiles: one that is signed meanwhile would come without all of its tiles. The newest one of
    the copy is its `checkpoint`, where tools for C2SP tlog-tiles look for it; `comitia verify log` looks at them all.

    Raises:
        DomainError: `objects_unavailable`.
    """
    heads = await _files(objects, log_folder(log), CHECKPOINTS)
    copied = 0
    for path in [*await _files(objects, log_folder(log), "tile"), *heads]:
        copied += await _copy_file(objects, f"{log_folder(log)}/{path}", target / path)
    await asyncio.to_thread(_name_newest, target)
    return copied


def _name_newest(target: Path) -> None:
    files = LogFolder(target)
    sizes = checkpoint_sizes(files)
    if sizes and (note := files.read(checkpoint_path(sizes[-1]))) is not None:
        _write(target / NEWEST, note)


async def _files(objects: LockedObjects, log: str, folder: str) -> list[str]:
    found = list[str]()
    for name in await objects.names(f"{log}/{folder}"):
        path = f"{folder}/{name}"
        found += await _files(objects, log, path) if _is_folder(folder, name) else [path]
    return found


async def _copy_file(objects: LockedObjects, name: str, target: Path) -> int:
    if await asyncio.to_thread(target.exists):
        return 0
    content = await joined(objects.read(name))
    await asyncio.to_thread(_write, target, content)
    return 1


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(8)}")  # another copy into this folder has its own
    aside.write_bytes(content)
    aside.replace(target)


def _is_folder(folder: str, name: str) -> bool:
    """Tell whether a name is that of a folder, by the layout: levels, `entries`, `x...`, and partial tiles."""
    return folder == "tile" or name.startswith("x") or name.endswith(".p")


async def compare_with_database(files: LogFiles, size: int, sequence: PostgresAuditSequence) -> list[Check]:
    """Compare the first `size` entries of a verified copy with the database, and look for entries without a place.

    Raises:
        DomainError: `audit_log_unavailable`.
    """
    wrong, compared = "", 0
    while compared < size and not wrong:
        tile = tile_of(0, compared, size)
        sealed = entries_of(files.read(tile.entries_path) or files.read(tile.whole.entries_path) or b"")[: tile.width]
        wrong = _first_difference(compared, sealed, await sequence.entries(compared, compared + tile.width))
        compared += TILE_WIDTH
    stray = await sequence.passed_over(0, size)
    return [
        Check("the database has these entries", holds=not wrong, detail=wrong or f"{size:,} entries"),
        Check("every entry of the database has its place", holds=not stray, detail=stray or "none was passed over"),
    ]


def _first_difference(first: int, sealed: Sequence[bytes], found: Sequence[LeafEntry]) -> str:
    rows = {entry.index: entry for entry in found}
    for index, leaf in enumerate(sealed, start=first):
        row = rows.get(index)
        if row is None or not row.leaf:
            return f"entry {index} is gone" + (f" ({row.entry_id})" if row is not None else "")
        if row.leaf != leaf:
            return f"entry {index} ({row.kind} {row.entry_id}) is not what was sealed"
    return ""
