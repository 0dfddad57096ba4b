"""Disks that are full: what a server cannot write, it must not acknowledge."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.experiment import Fault
from tests.faults.stage import Stage

FULL_S = 10.0
_BALLAST = "ballast"
_PIECES = (1 << 20, 1 << 12)  # coarse first, then to the last page


def fill(folder: Path) -> Path:
    """Fill the file system of a folder to the last page; return the file that does."""
    ballast = folder / _BALLAST
    with ballast.open("wb", buffering=0) as file:
        for piece in _PIECES:
            block = b"\0" * piece
            while True:
                try:
                    written = os.write(file.fileno(), block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
                if written < piece:
                    break
    return ballast


def full(server: str) -> Fault:
    """The file system of one server is full; what dies of it is started again when there is room."""

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        ballast = await asyncio.to_thread(fill, stage.disks[server])
        filling = asyncio.create_task(_keep_full(stage.disks[server]))
        try:
            yield
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)
            for file in ballast.parent.glob(f"{_BALLAST}*"):
                file.unlink()

    def impossible(stage: Stage) -> str:
        return "" if server in stage.disks else stage.undiskable or "this stack has no disks of its own"

    return Fault(f"disk-full/{server}", inject, seconds=FULL_S, impossible=impossible, processes=frozenset({server}))


async def _keep_full(folder: Path) -> None:
    """Take what the server gives back by removing files."""
    for number in range(1_000_000):
        await asyncio.sleep(0.1)
        with (folder / f"{_BALLAST}-{number}").open("wb", buffering=0) as file:
            try:
                while os.write(file.fileno(), b"\0" * _PIECES[1]) == _PIECES[1]:
                    pass
            except OSError:
                continue
