"""A pair of PostgreSQL servers of a test's own, and what tests do to it."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from pydantic import SecretStr

from comitia.stack.ports import HOST, choose
from comitia.stack.postgres_member import PairPlace
from comitia.stack.postgres_pair import PostgresPair
from comitia.stack.process import ManagedProcess
from integrations.addresses import DatabaseAddress
from integrations.postgres.failures import UNAVAILABLE
from integrations.postgres.pool import open_pool
from integrations.postgres.replicas import Reader, open_reader
from integrations.settings import Environment, Settings
from tests.end_to_end.house import eventually

COMPLETE_WITHIN_S = 180.0  # a copy of a server, on a machine that does much else


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


@asynccontextmanager
async def pool_of(pair: PostgresPair, *, first: int | None = None, **options: Any) -> AsyncIterator[asyncpg.Pool]:
    """A pool as our processes have them, to both members or to another server that comes before the primary."""
    one, two = pair.members
    ports = (first, pair.primary.port) if first else (one.port, two.port)
    pool = await open_pool(_address(*ports), _settings(pair), pair.administrator.name, size=2, **options)
    try:
        yield pool
    finally:
        pool.terminate()


async def reader_of(pair: PostgresPair, pool: asyncpg.Pool, lifetime: AsyncExitStack, *, max_lag_s: float) -> Reader:
    """A reader of the pair as our processes have them."""
    one, two = pair.members
    who = pair.administrator.name
    return await open_reader(
        _address(one.port, two.port), _settings(pair), who, lifetime, max_lag_s=max_lag_s, primary=pool
    )


def _address(port: int, other: int) -> DatabaseAddress:
    return DatabaseAddress(host=HOST, port=port, others=f"{HOST}:{other}", name="postgres")


def _settings(pair: PostgresPair) -> Settings:
    who = pair.administrator
    return Settings(environment=Environment.TEST, database_passwords={who.name: SecretStr(who.password)})


async def waiting_for_standby(other: asyncpg.Connection, pid: int) -> None:
    """Return once a session waits for its commit to reach the others."""

    async def waits() -> bool:
        event = await other.fetchval("SELECT wait_event FROM pg_stat_activity WHERE pid = $1", pid)
        return bool(event == "SyncRep")

    await eventually(waits, what="a commit that waits")


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
                if self._task is not None and self._task.done():
                    await self._task  # fails with what it did not expect
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
            except (*UNAVAILABLE, asyncpg.PostgresError):
                await asyncio.sleep(0.05)


async def destroy(pair: PostgresPair) -> None:
    """Take both servers and all of their data away; the archive is somewhere else."""
    members = (pair.standby, pair.primary)
    for member in members:
        member.cluster.rename(member.cluster.with_name(f"{member.name}-destroyed"))
    for member in members:
        await member.process.kill()
        await asyncio.to_thread(shutil.rmtree, member.cluster.with_name(f"{member.name}-destroyed"))
