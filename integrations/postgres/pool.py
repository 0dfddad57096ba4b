"""Connections to PostgreSQL, refused where a commit would not be durable."""

import ssl
from typing import Any

import asyncpg

from integrations.settings import DatabaseAddress, Settings, Tls

Pool = asyncpg.Pool  # one name for the driver's pool
DURABILITY = {"fsync": {"on"}, "full_page_writes": {"on"}, "synchronous_commit": {"on", "remote_apply"}}


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

    A stalled process gives up its locks after 2 s (`idle_in_transaction_session_timeout`).

    Raises:
        NotDurableError: a durability setting, read back from the server, is not what the ledger needs.
    """
    pool = await asyncpg.create_pool(
        host=address.host,
        port=address.port,
        database=address.name,
        user=role,
        password=settings.password(role).get_secret_value(),
        ssl=tls_context(address.tls) or "disable",
        min_size=1,
        max_size=size,
        server_settings={
            "application_name": role,
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": "2s",
        },
        **options,
    )
    try:
        await durability(pool)
    except BaseException:
        pool.terminate()
        raise
    return pool


async def pool_on_demand(
    address: DatabaseAddress, settings: Settings, role: str, *, size: int = 4, **options: Any
) -> asyncpg.Pool:
    """Return a pool that connects when first asked, so that a process starts while this database is away.

    Each new connection is refused with NotDurableError as `open_pool` would.
    """

    async def refuse_unsafe(connection: Any) -> None:
        await durability(connection)

    return await asyncpg.create_pool(
        host=address.host,
        port=address.port,
        database=address.name,
        user=role,
        password=settings.password(role).get_secret_value(),
        ssl=tls_context(address.tls) or "disable",
        min_size=0,
        max_size=size,
        init=refuse_unsafe,
        server_settings={
            "application_name": role,
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": "2s",
        },
        **options,
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
