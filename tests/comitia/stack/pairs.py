"""A pair of PostgreSQL servers of a test's own, and what tests do to it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import psutil

from comitia.stack.pair_watch import PairWatch
from comitia.stack.ports import HOST, choose
from comitia.stack.postgres_member import PairPlace
from comitia.stack.postgres_pair import PostgresPair
from comitia.stack.process import ManagedProcess

COMPLETE_WITHIN_S = 60.0


def new_pair(folder: Path) -> PostgresPair:
    """Return a pair with its data in a folder of its own."""
    folder.chmod(0o711)
    ports = choose(("a", "b"), {})
    return PostgresPair("test", PairPlace(folder / "pair", folder / "logs"), (ports["a"], ports["b"]), say=print)


@asynccontextmanager
async def administrator(pair: PostgresPair, port: int | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the primary, or to whoever listens on another port."""
    who = pair.administrator
    connection = await asyncpg.connect(
        host=HOST,
        port=port or pair.primary.port,
        user=who.name,
        password=who.password,
        database="postgres",
        ssl="disable",
        timeout=10,
    )
    try:
        yield connection
    finally:
        connection.terminate()


@contextmanager
def frozen(*processes: ManagedProcess) -> Iterator[None]:
    """Keep these from doing anything."""
    family: list[psutil.Process] = []
    for process in processes:
        assert process.pid is not None
        family += [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in family:
        os.kill(each.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in family:
            if each.is_running():
                os.kill(each.pid, signal.SIGCONT)


class Writer:
    """Writes numbers as fast as commits come back; `acknowledged` are those whose commit did."""

    def __init__(self, pair: PostgresPair) -> None:
        self._pair = pair
        self.acknowledged: list[int] = []
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the table and begin."""
        async with administrator(self._pair) as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS written (number int)")
        self._task = asyncio.create_task(self._write())

    async def until(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(COMPLETE_WITHIN_S):
            while len(self.acknowledged) < wanted:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Write no more."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def missing(self) -> set[int]:
        """Return what was acknowledged and is not there."""
        async with administrator(self._pair) as connection:
            found = {row[0] for row in await connection.fetch("SELECT number FROM written")}
        return set(self.acknowledged) - found

    async def _write(self) -> None:
        number = 0
        while True:
            try:
                async with administrator(self._pair) as connection:
                    while True:
                        number += 1
                        await connection.execute("INSERT INTO written VALUES ($1)", number)
                        self.acknowledged.append(number)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(pair: PostgresPair) -> AsyncIterator[PairWatch]:
    """Run a pair."""
    async with PairWatch(pair) as watch:
        yield watch
