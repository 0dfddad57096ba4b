"""What every process of registration opens of one cell."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import asyncpg
from temporalio.client import Client

from domain.ports import KeyManagement
from integrations.keys.inbox import InboxSeal
from integrations.keys.purposes import DOCUMENT, HISTORY, INBOX, KEK_PERSONAL, LOOKUP, history
from integrations.postgres.account_ends import PostgresAccountEnds
from integrations.postgres.account_notices import PostgresAccountNotices
from integrations.postgres.account_recoveries import PostgresAccountRecoveries
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.device_events import PostgresDeviceEvents
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.document_claims import PostgresDocumentClaims
from integrations.postgres.login_ways import PostgresLoginWays
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.personal_records import PostgresPersonalRecords
from integrations.postgres.pool import pool_on_demand
from integrations.postgres.registrations import PostgresRegistrations
from integrations.postgres.roles import IDENTITY
from integrations.postgres.webhook_inbox import PostgresWebhookInbox
from integrations.reaching import any_answers, reach_cells, reached
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.waiting_metrics import WaitingMetrics
from integrations.temporal.accounts import TemporalAccounts
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec, keep_refreshed
from integrations.temporal.logins import TemporalLogins
from integrations.temporal.registrations import TemporalRegistrations

KEYS = (KEK_PERSONAL, LOOKUP, DOCUMENT, INBOX, HISTORY)
_CONNECTIONS = 4
_STATEMENT_TIMEOUT_S = 4.0  # under the activity's own, so that the driver says what happened


@dataclass(frozen=True, slots=True)
class IdentityCell:
    """Open clients of one cell, closed with the lifetime that they were opened in."""

    name: str
    pool: asyncpg.Pool
    codec: EncryptionCodec
    temporal: Client
    registrations: PostgresRegistrations
    accounts: PostgresAccounts
    records: PostgresPersonalRecords
    inbox: PostgresWebhookInbox
    sightings: PostgresDeviceSightings
    device_events: PostgresDeviceEvents
    credentials: PostgresCredentials
    ways: PostgresLoginWays
    notices: PostgresAccountNotices
    logins: PostgresLogins
    processes: TemporalRegistrations
    login_processes: TemporalLogins
    ends: PostgresAccountEnds
    recoveries: PostgresAccountRecoveries
    account_processes: TemporalAccounts


async def identity_pools(
    settings: Settings,
    lifetime: AsyncExitStack,
    role: str = IDENTITY,
    *,
    size: int = _CONNECTIONS,
    waiting: WaitingMetrics | None = None,
) -> dict[str, asyncpg.Pool]:
    """Return a pool per cell as a role; a cell that is away is noticed when it is asked."""
    pools = {}
    for cell, addresses in settings.cells.items():
        pools[cell] = await pool_on_demand(
            addresses.database,
            settings,
            role,
            size=size,
            watch=None if waiting is None else waiting.watch_pool(cell, role),
            lock_timeout="2s",
            command_timeout=_STATEMENT_TIMEOUT_S,
            timeout=_STATEMENT_TIMEOUT_S,
        )
        lifetime.push_async_callback(pools[cell].close)
    return pools


class IdentityCells:
    """The cells of this process that have been reached."""

    def __init__(
        self, settings: Settings, keys: KeyManagement, telemetry: Telemetry, *, connections: int = _CONNECTIONS
    ) -> None:
        """Have at most so many `connections` to the database of each cell."""
        self._settings = settings
        self._connections = connections
        self._keys = keys
        self._telemetry = telemetry
        self._opened: dict[str, IdentityCell] = {}

    async def open(
        self,
        lifetime: AsyncExitStack,
        serve: Callable[[IdentityCell, AsyncExitStack], Awaitable[None]] | None = None,
    ) -> None:
        """Open every cell that can be reached; the others follow when they can.

        `serve` opens what the process does in a cell before anybody is let into it.
        """
        pools = await identity_pools(self._settings, lifetime, size=self._connections, waiting=self._telemetry.waiting)

        async def open_cell(name: str, stack: AsyncExitStack) -> None:
            cell = await open_identity_cell(name, self._settings, self._keys, pools[name], self._telemetry)
            stack.callback(asyncio.create_task(keep_refreshed(cell.codec)).cancel)
            if serve is not None:
                await serve(cell, stack)
            self._opened[name] = cell

        await reach_cells(self._settings.cells, open_cell, lifetime)

    def of(self, name: str | None) -> IdentityCell:
        """Return an open cell, by the name that an id carries.

        Raises:
            DomainError: `wrong_cell` where this process does not serve it, `cell_unavailable` where it is down.
        """
        return reached(self._opened, self._settings.cells, name)

    async def ready(self) -> bool:
        """Tell whether some cell can be served now."""
        return await any_answers(partial(cell.pool.fetchval, "SELECT true") for cell in self._opened.values())


def document_claims(pools: Mapping[str, asyncpg.Pool]) -> dict[str, PostgresDocumentClaims]:
    """Return the claims of every cell."""
    return {cell: PostgresDocumentClaims(pool) for cell, pool in pools.items()}


async def open_identity_cell(
    cell: str, settings: Settings, keys: KeyManagement, pool: asyncpg.Pool, telemetry: Telemetry | None = None
) -> IdentityCell:
    """Open a cell's Temporal under the keys of histories that last, and the stores on its pool.

    Raises:
        RuntimeError: the cell's Temporal cannot be reached.
        DomainError: `key_unavailable`.
    """
    codec = EncryptionCodec(keys, history(cell))
    await codec.refresh()
    temporal = await connect(settings.cells[cell].temporal, codec, telemetry)
    return IdentityCell(
        name=cell,
        pool=pool,
        codec=codec,
        temporal=temporal,
        registrations=PostgresRegistrations(pool),
        accounts=PostgresAccounts(pool, cell),
        records=PostgresPersonalRecords(pool, keys),
        sightings=PostgresDeviceSightings(pool),
        device_events=PostgresDeviceEvents(pool),
        credentials=PostgresCredentials(pool),
        ways=PostgresLoginWays(pool),
        notices=PostgresAccountNotices(pool),
        logins=PostgresLogins(pool),
        inbox=PostgresWebhookInbox(pool, InboxSeal(keys)),
        processes=TemporalRegistrations(temporal, cell),
        login_processes=TemporalLogins(temporal, cell),
        ends=PostgresAccountEnds(pool),
        recoveries=PostgresAccountRecoveries(pool),
        account_processes=TemporalAccounts(temporal, cell),
    )
