"""Reading from the standby: work for the primary's reserves, as long as it is not too far behind."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from integrations.addresses import DatabaseAddress
from integrations.postgres.failures import UNAVAILABLE
from integrations.postgres.pool import Pool, pool_on_demand, standby_pool
from integrations.settings import Settings

_CATCH_UP_WITHIN_S = 1.0
_LOOK_EVERY_S = 0.02
_PRIMARY = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"
_STANDBY = """
SELECT pg_is_in_recovery() AS follows, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS replayed,
    coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 'infinity')::float AS age_s
"""


class Reads(Protocol):
    """What a pool offers to whoever only reads."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """Return the first row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first value of the first row, or None."""
        ...

    def acquire(self) -> Any:
        """Return a context manager around one connection."""
        ...


class Reader:
    """Reads a database from its standby, or from the primary where the standby is away or too far behind.

    What is read is at most `max_lag_s` old: everything that was acknowledged so long before the call is in it. With 0
    it is as fresh as the primary's. While the primary is away, a standby that replayed a commit of the last
    `max_lag_s` still serves; any other read raises what the primary's pool raises.
    """

    def __init__(self, primary: Pool, standby: Pool | None, max_lag_s: float) -> None:
        self._primary = primary
        self._standby = standby
        self._max_lag_s = max_lag_s
        self._asked_at, self._position = float("-inf"), 0
        self.served = {"standby": 0, "primary": 0}  # how often who was read

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """As the pool's."""
        return list(await (await self.choose()).fetch(query, *args))

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """As the pool's."""
        return await (await self.choose()).fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """As the pool's."""
        return await (await self.choose()).fetchval(query, *args)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """As the pool's: one connection, for several reads of one snapshot."""
        async with (await self.choose()).acquire() as connection:
            yield connection

    async def choose(self) -> Pool:
        """Return the pool to read from now."""
        chosen, name = self._primary, "primary"
        if self._standby is not None and await self._is_fresh(self._standby):
            chosen, name = self._standby, "standby"
        self.served[name] += 1
        return chosen

    async def _is_fresh(self, standby: Pool) -> bool:
        try:
            wanted = await self._wanted()
            async with standby.acquire() as connection, asyncio.timeout(_CATCH_UP_WITHIN_S):
                while True:
                    row: Any = await connection.fetchrow(_STANDBY)
                    if not row["follows"]:
                        await standby.expire_connections()  # it was promoted: the next connection finds who follows now
                        return False
                    if row["replayed"] >= wanted if wanted is not None else row["age_s"] <= self._max_lag_s:
                        return True
                    if wanted is None:
                        return False
                    await asyncio.sleep(_LOOK_EVERY_S)
        except UNAVAILABLE:
            return False

    async def _wanted(self) -> int | None:
        """Return the position that the standby must have replayed, or None where the primary does not say."""
        now = time.monotonic()
        if now - self._asked_at > self._max_lag_s or self._max_lag_s == 0:
            try:
                self._position = int(await self._primary.fetchval(_PRIMARY))
            except UNAVAILABLE:
                return None
            self._asked_at = now
        return self._position


async def open_reader(
    address: DatabaseAddress,
    settings: Settings,
    role: str,
    lifetime: AsyncExitStack,
    *,
    max_lag_s: float,
    primary: Pool | None = None,
    **options: Any,
) -> Reader:
    """Return a reader of a database, closed with `lifetime`; it connects when first asked.

    `primary` is a pool of the same database that is there already. Where the address names one server, it is read.
    """
    if primary is None:
        primary = await pool_on_demand(address, settings, role, **options)
        lifetime.push_async_callback(primary.close)
    standby = None
    if len(address.servers) > 1:
        standby = await standby_pool(address, settings, role, **options)
        lifetime.push_async_callback(standby.close)
    return Reader(primary, standby, max_lag_s)
