"""What every process of the platform opens: the catalogue, and Temporal's namespace that belongs to no cell."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg
from temporalio.client import Client

from domain.ports import KeyManagement
from integrations.keys.purposes import in_flight
from integrations.postgres.pool import open_pool, pool_on_demand
from integrations.postgres.roles import SURVEYS
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.waiting_metrics import WaitingMetrics
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec

DEPLOYMENT = "platform"
SURVEYS_QUEUE = "surveys"
EXPORTS_QUEUE = "exports"
KEYS_QUEUE = "keys"
AUDIT_DEPLOYMENT = "audit"
AUDIT_QUEUE = "audit"
CERTIFICATION_DEPLOYMENT = "certification"
CERTIFICATION_QUEUE = "certification"
RECONCILIATION_DEPLOYMENT = "reconciliation"
RECONCILIATION_QUEUE = "reconciliation"
IN_FLIGHT = in_flight("platform")
_STATEMENT_TIMEOUT_S = 4.0  # under the activity's own, so that the driver says what happened


@dataclass(frozen=True, slots=True)
class PlatformClients:
    """Open clients, closed with the lifetime that they were opened in."""

    catalogue: asyncpg.Pool
    codec: EncryptionCodec
    temporal: Client


async def open_platform(
    settings: Settings,
    keys: KeyManagement,
    lifetime: AsyncExitStack,
    telemetry: Telemetry,
    *,
    role: str = SURVEYS,
) -> PlatformClients:
    """Open the catalogue as a role, and Temporal.

    Raises:
        LookupError: the settings name no catalogue or no namespace.
        NotDurableError: PostgreSQL would acknowledge what a crash can undo.
    """
    if settings.catalogue is None or settings.platform_temporal is None:
        raise LookupError("COMITIA_CATALOGUE and COMITIA_PLATFORM_TEMPORAL are not both set")
    pool = await catalogue_pool(settings, lifetime, role, waiting=telemetry.waiting)
    codec = EncryptionCodec(keys, IN_FLIGHT)
    await codec.refresh()
    return PlatformClients(
        catalogue=pool,
        codec=codec,
        temporal=await connect(settings.platform_temporal, codec, telemetry),
    )


async def catalogue_pool(
    settings: Settings, lifetime: AsyncExitStack, role: str, *, waiting: WaitingMetrics, size: int = 8
) -> asyncpg.Pool:
    """Return connections to the catalogue as a role.

    Raises:
        LookupError: the settings name no catalogue.
        NotDurableError: PostgreSQL would acknowledge what a crash can undo.
    """
    if settings.catalogue is None:
        raise LookupError("COMITIA_CATALOGUE is not set")
    pool = await open_pool(
        settings.catalogue,
        settings,
        role,
        size=size,
        watch=waiting.watch_pool("catalogue", role),
        command_timeout=_STATEMENT_TIMEOUT_S,
        timeout=_STATEMENT_TIMEOUT_S,
    )
    lifetime.push_async_callback(pool.close)
    return pool


async def cell_pools(
    settings: Settings,
    lifetime: AsyncExitStack,
    role: str = SURVEYS,
    *,
    waiting: WaitingMetrics | None = None,
    statement_timeout_s: float = _STATEMENT_TIMEOUT_S,
) -> dict[str, asyncpg.Pool]:
    """Return a pool per cell as `role`; a cell that is away is noticed when it is asked."""
    pools = {}
    for cell, addresses in settings.cells.items():
        pools[cell] = await pool_on_demand(
            addresses.database,
            settings,
            role,
            watch=None if waiting is None else waiting.watch_pool(cell, role),
            command_timeout=statement_timeout_s,
            timeout=min(statement_timeout_s, _STATEMENT_TIMEOUT_S),
        )
        lifetime.push_async_callback(pools[cell].close)
    return pools
