"""What the keeper of a primary and its standby asks of each server, as administrator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from integrations.addresses import Address
from integrations.postgres.failures import UNAVAILABLE
from integrations.postgres.provision import Administrator

REPLICATOR = "comitia_replicator"  # streams the write-ahead log and reads base backups; sees no table
_MAINTENANCE = "postgres"
_CONNECT_WITHIN_S = 5.0
_LOOK_AGAIN_S = 0.02
_SEGMENT_BYTES = 16 * 1024 * 1024  # PostgreSQL's default, which `initdb` is not told to change
_BUSY = (asyncpg.TooManyConnectionsError,)  # says no, but is alive


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody who receives the log from a primary."""

    streaming: bool
    priority: int  # 0: no commit waits for it; as its sender sees it, which reads the settings by itself
    flushed: int  # up to this position it has the log on its disk


class Replication:
    """One server of a pair. Positions in the log are plain numbers of bytes.

    Every call is bounded in time and raises one of `UNAVAILABLE` where the server does not answer.
    """

    def __init__(self, address: Address, administrator: Administrator) -> None:
        self.address = address
        self._administrator = administrator
        self._probe: Any = None

    async def is_primary(self, within_s: float) -> bool | None:
        """Tell whether it serves writes, or None where it does not answer in time; asked over a kept connection."""
        try:
            async with asyncio.timeout(within_s):
                return not await (await self._kept()).fetchval("SELECT pg_is_in_recovery()")
        except _BUSY:
            return True
        except UNAVAILABLE:
            self.close()
            return None

    def close(self) -> None:
        """Drop the kept connection."""
        if self._probe is not None:
            self._probe.terminate()
            self._probe = None

    async def make_replicator(self, password: str) -> None:
        """Make the role that standbys and archives connect as. Waits for nobody, as there is nobody yet."""
        async with self._session() as session:
            await session.execute("SET synchronous_commit = local")
            quoted = await session.fetchval("SELECT quote_literal($1::text)", password)
            await session.execute(f'CREATE ROLE "{REPLICATOR}" LOGIN REPLICATION PASSWORD {quoted}')

    async def ensure_slots(self, names: tuple[str, ...]) -> None:
        """Keep the log for each of these receivers until it has it. Safe to repeat."""
        async with self._session() as session:
            known = {row[0] for row in await session.fetch("SELECT slot_name FROM pg_replication_slots")}
            for name in names:
                if name not in known:
                    await session.execute("SELECT pg_create_physical_replication_slot($1, true)", name)

    async def demand(self, receivers: str) -> None:
        """Let every commit wait for these receivers (`synchronous_standby_names`), also after a restart."""
        async with self._session() as session:
            quoted = await session.fetchval("SELECT quote_literal($1::text)", receivers)
            await session.execute(f"ALTER SYSTEM SET synchronous_standby_names = {quoted}")
            await session.execute("SELECT pg_reload_conf()")

    async def promote(self, within_s: float) -> None:
        """Make a standby the primary once it has replayed what it has; returns when it is. Safe to repeat.

        Raises:
            TimeoutError: it is none yet.
        """
        async with asyncio.timeout(within_s):
            async with self._session() as session:
                asked = False
                while await session.fetchval("SELECT pg_is_in_recovery()"):
                    if not asked:
                        await session.fetchval("SELECT pg_promote(false)")
                        asked = True
                    await asyncio.sleep(_LOOK_AGAIN_S)

    async def receivers(self, within_s: float) -> dict[str, Receiver]:
        """Return who receives the log, by application name; asked over the kept connection."""
        try:
            async with asyncio.timeout(within_s):
                rows = await (await self._kept()).fetch(
                    "SELECT application_name, state = 'streaming' AS streaming, sync_priority, "
                    "coalesce(pg_wal_lsn_diff(flush_lsn, '0/0'), 0)::bigint AS flushed FROM pg_stat_replication"
                )
        except UNAVAILABLE:
            self.close()
            raise
        return {
            row["application_name"]: Receiver(row["streaming"], row["sync_priority"], row["flushed"]) for row in rows
        }

    async def flushed(self) -> int:
        """Return up to where a primary's own log is on its disk: no commit that was ever visible is beyond."""
        async with self._session() as session:
            return int(await session.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"))

    async def fork(self) -> tuple[int, int] | None:
        """Return (timeline, segment) where a promoted server left the log that it followed; None if it never was.

        The segment is the number of 16 MiB pieces before the one that holds the place.
        """
        async with self._session() as session:
            timeline = await session.fetchval("SELECT timeline_id FROM pg_control_checkpoint()")
            current = await session.fetchval("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
            timeline = max(int(timeline), int(current, 16))
            if timeline == 1:
                return None
            history = await session.fetchval("SELECT pg_read_file($1)", f"pg_wal/{timeline:08X}.history")
            place = history.strip().splitlines()[-1].split("\t")[1]
            byte = await session.fetchval("SELECT pg_wal_lsn_diff($1::text::pg_lsn, '0/0')::bigint", place)
        return timeline, int(byte) // _SEGMENT_BYTES

    async def prove(self, within_s: float) -> None:
        """Commit something that means nothing: returns when everybody whom commits wait for has it.

        Raises:
            TimeoutError: somebody is missing.
        """
        async with asyncio.timeout(within_s), self._session() as session:
            await session.execute("SELECT pg_logical_emit_message(true, 'comitia', '')")

    async def _kept(self) -> Any:
        if self._probe is None or self._probe.is_closed():
            self._probe = await self._connect()
        return self._probe

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        session = await self._connect()
        try:
            yield session
        finally:
            session.terminate()  # without a word: also a server that hangs lets us go

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            host=self.address.host,
            port=self.address.port,
            user=self._administrator.name,
            password=self._administrator.password,
            database=_MAINTENANCE,
            ssl="disable",
            timeout=_CONNECT_WITHIN_S,
        )
