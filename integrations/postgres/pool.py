"""Connections to PostgreSQL, refused where a commit would not be durable."""

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import asyncpg

from integrations.addresses import DatabaseAddress, Tls
from integrations.postgres.durable import DurableConnection, prove
from integrations.postgres.failures import UNAVAILABLE
from integrations.settings import Settings

Pool = asyncpg.Pool  # one name for the driver's pool
DURABILITY = {"fsync": {"on"}, "full_page_writes": {"on"}, "synchronous_commit": {"on", "remote_apply"}}
_CONNECT_WITHIN_S = 3.0  # of several servers one may hang while another has taken over
_PROVE_WITHIN_S = 3.0
_PROVED_FOR_S = 5.0
_CLOSE_WITHIN_S = 1.0
_AS_THE_DRIVER_DOES = {  # in `create_pool`, which makes no pool but its own
    "max_queries": 50_000,
    "max_inactive_connection_lifetime": 300.0,
    "loop": None,
    "record_class": asyncpg.Record,
}


class CountedPool(asyncpg.Pool):
    """A pool that knows how many wait for one of its connections."""

    waiting = 0

    async def _acquire(self, within_s: float | None) -> Any:
        self.waiting += 1
        try:
            return await super()._acquire(within_s)  # type: ignore[misc]  # what every statement goes through
        finally:
            self.waiting -= 1


PoolWatch = Callable[[CountedPool], None]


class NotDurableError(RuntimeError):
    """The server would acknowledge a commit that a crash can undo."""


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """Return a client context (TLS 1.3, server's name checked) for the PEM files of an address, or None."""
    if tls is None:
        return None
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if tls.certificate is not None:
        context.load_cert_chain(str(tls.certificate), str(tls.key) if tls.key else None)
    return context


async def open_pool(
    address: DatabaseAddress, settings: Settings, role: str, *, size: int = 8, **options: Any
) -> asyncpg.Pool:
    """Open a pool as `role`, sessions in UTC.

    A stalled process gives up its locks after 2 s (`idle_in_transaction_session_timeout`). Where the address names
    several servers, every connection is to one that is primary and whose commits reach its standby. Each is looked at
    when it is made: whoever logs in as a role can change what later connections of that role begin with. `watch` is
    told of the pool, as in the other functions here.

    Raises:
        NotDurableError: a durability setting, read back from the server, is not what the ledger needs.
    """
    pool = await _pool(address, settings, role, min_size=1, max_size=size, init=_refuse_unsafe, **options)
    try:
        await durability(pool)
    except BaseException:
        pool.terminate()
        raise
    return pool


async def pool_on_demand(
    address: DatabaseAddress,
    settings: Settings,
    role: str,
    *,
    size: int = 4,
    lock_timeout: str = "0",
    **options: Any,
) -> asyncpg.Pool:
    """Return a pool that connects when first asked, so that a process starts while this database is away.

    Each new connection is refused with NotDurableError as `open_pool` would. `lock_timeout` is PostgreSQL's; it bounds
    waiting for a row, and never a commit, which nothing may cut short.
    """
    return await _pool(
        address, settings, role, min_size=0, max_size=size, init=_refuse_unsafe, lock_timeout=lock_timeout, **options
    )


async def standby_pool(
    address: DatabaseAddress, settings: Settings, role: str, *, size: int = 2, **options: Any
) -> asyncpg.Pool:
    """Return a pool that connects to a standby of this database when first asked; nothing can be written on it."""
    return await _pool(
        address,
        settings,
        role,
        min_size=0,
        max_size=size,
        **{**options, "connect": _Member(address, "standby"), "setup": None, "connection_class": asyncpg.Connection},
    )


async def durability(pool: asyncpg.Pool | asyncpg.Connection) -> dict[str, str]:
    """Return the durability settings as the server reports them.

    Raises:
        NotDurableError: one of them is not safe.
    """
    found = {name: str(await pool.fetchval(f"SHOW {name}")) for name in DURABILITY}
    unsafe = {name: value for name, value in found.items() if value not in DURABILITY[name]}
    if unsafe:
        raise NotDurableError(f"unsafe durability settings: {unsafe}")
    return found


async def _refuse_unsafe(connection: Any) -> None:
    await durability(connection)


async def _pool(
    address: DatabaseAddress,
    settings: Settings,
    role: str,
    *,
    lock_timeout: str = "0",
    watch: PoolWatch | None = None,
    **options: Any,
) -> asyncpg.Pool:
    where: dict[str, Any] = {"host": address.host, "port": address.port}
    if len(address.servers) > 1:
        where = {"connect": _Member(address, "primary"), "setup": _still_primary}
    chosen = {
        **_AS_THE_DRIVER_DOES,
        **where,
        "connection_class": DurableConnection,
        "database": address.name,
        "user": role,
        "password": settings.password(role).get_secret_value(),
        "ssl": tls_context(address.tls) or "disable",
        "server_settings": {
            "application_name": role,
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": "2s",
            "lock_timeout": lock_timeout,
        },
        **options,
    }
    pool = CountedPool(**chosen)
    if watch is not None:
        watch(pool)
    return await pool


class _Member:
    """Connects to whichever of the servers is a `primary` that can commit, or a `standby`.

    A primary that came back after another took over says that it is one, too; but no commit of its own ever ends.
    """

    def __init__(self, address: DatabaseAddress, part: Literal["primary", "standby"]) -> None:
        self._servers = list(address.servers)  # the last one that served comes first
        self._part = part

    async def __call__(self, *_: Any, **options: Any) -> asyncpg.Connection:
        options["timeout"] = min(options.get("timeout") or _CONNECT_WITHIN_S, _CONNECT_WITHIN_S)
        options["target_session_attrs"] = self._part
        failure: BaseException = OSError("no server")
        for server in tuple(self._servers):
            try:
                connection: asyncpg.Connection = await asyncpg.connect(host=server.host, port=server.port, **options)
                if self._part == "primary":
                    await _prove(connection)
            except UNAVAILABLE as error:
                failure = error
                continue
            self._servers.sort(key=lambda other, chosen=server: other != chosen)  # type: ignore[misc]
            return connection
        raise failure


async def _still_primary(connection: Any) -> None:
    """Prove a pooled connection again where the last proof is old: its server may have lost its part unseen."""
    held = connection._con  # noqa: SLF001 - the proxy has no other way to what it stands for
    if time.monotonic() - held.proved_at > _PROVED_FOR_S:
        await _prove(held)


async def _prove(connection: Any) -> None:
    try:
        await prove(connection, within_s=_PROVE_WITHIN_S)
    except BaseException:
        # The driver takes its question back first: a server without its standby would keep it for as long as that lasts
        with suppress(*UNAVAILABLE):
            await connection.close(timeout=_CLOSE_WITHIN_S)
        raise
    connection.proved_at = time.monotonic()
