"""Opens what the service `auth` needs of each cell; a cell that is down keeps only its own people waiting."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import structlog

from api.background import run_beside
from domain.accounts import LookupHashes
from domain.errors import DomainError
from domain.ports import KeyManagement
from domain.sessions import RevokedSessions
from integrations.keys.lookups import KeyedLookupHashes
from integrations.login.passkeys import Passkeys
from integrations.login.recovery_codes import RecoveryCodes
from integrations.login.totp import TotpFactor
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresCredentials, PostgresSentCodes
from integrations.postgres.device_events import PostgresDeviceEvents
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.ended_sessions import EndedSessions
from integrations.postgres.login_transactions import PostgresLoginTransactions
from integrations.postgres.login_ways import PostgresLoginWays
from integrations.postgres.personal_records import PostgresPersonalRecords
from integrations.postgres.pool import NotDurableError, Pool, open_pool
from integrations.postgres.roles import IDENTITY
from integrations.postgres.sessions import PostgresSessions
from integrations.reaching import any_answers, reach_cells, reached
from integrations.redis.connection import open_redis
from integrations.redis.ended_sessions import EndedSessionsChannel
from integrations.revocation import RevocationFeed
from integrations.settings import Settings
from integrations.telemetry.waiting_metrics import WaitingMetrics

POOL_SIZE = 8
_REDIS_CONNECTIONS = 4  # one of them listens
_SWEEP_EVERY_S = 600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AuthCell:
    """What the service needs of one cell; `passkeys` is None where the settings name no domain that they are of."""

    name: str
    pool: Pool
    sessions: PostgresSessions
    channel: EndedSessionsChannel
    accounts: PostgresAccounts
    transactions: PostgresLoginTransactions
    records: PostgresPersonalRecords
    credentials: PostgresCredentials
    sent_codes: PostgresSentCodes
    totp: TotpFactor
    recovery_codes: RecoveryCodes
    passkeys: Passkeys | None
    sightings: PostgresDeviceSightings
    device_events: PostgresDeviceEvents
    ways: PostgresLoginWays


class AuthCells:
    """The cells of this process that have been reached; `keys` may use `kek/personal` and `lookup`."""

    def __init__(
        self,
        settings: Settings,
        keys: KeyManagement,
        *,
        waiting: WaitingMetrics,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self.hashes: LookupHashes = KeyedLookupHashes(keys)
        self.now = now
        self.revoked = RevokedSessions()
        self._waiting = waiting
        self._open: dict[str, AuthCell] = {}

    def of(self, cell: str | None) -> AuthCell:
        """Return an open cell, by the name that an id or a token carries.

        Raises:
            DomainError: `wrong_cell` where this process does not serve it, `cell_unavailable` where it is down.
        """
        return reached(self._open, self._settings.cells, cell)

    async def open(self, lifetime: AsyncExitStack) -> None:
        """Open every cell that can be reached; the others follow when they can.

        Raises:
            NotDurableError: a database would acknowledge what a crash can undo.
        """
        await reach_cells(self._settings.cells, self._open_cell, lifetime, final=(NotDurableError,))

    async def ready(self) -> bool:
        """Tell whether people of some cell can be served now."""
        return await any_answers(partial(cell.pool.fetchval, "SELECT true", timeout=1) for cell in self._open.values())

    async def _open_cell(self, name: str, stack: AsyncExitStack) -> None:
        address, watch = self._settings.cells[name].database, self._waiting.watch_pool(name, IDENTITY)
        pool = await open_pool(address, self._settings, IDENTITY, size=POOL_SIZE, watch=watch)
        stack.push_async_callback(pool.close)
        redis = open_redis(self._settings.cells[name].redis, connections=_REDIS_CONNECTIONS)
        stack.push_async_callback(redis.aclose)
        channel = EndedSessionsChannel(redis, name)
        await RevocationFeed(name, self.revoked, pool, channel, now=self.now).open(stack, run_beside)
        run_beside(stack, _sweep(name, EndedSessions(pool)))
        self._open[name] = self._cell(name, pool, channel)

    def _cell(self, name: str, pool: Pool, channel: EndedSessionsChannel) -> AuthCell:
        records, credentials = PostgresPersonalRecords(pool, self._keys), PostgresCredentials(pool)
        transactions, passkeys = PostgresLoginTransactions(pool), self._settings.passkeys
        return AuthCell(
            name=name,
            pool=pool,
            sessions=PostgresSessions(pool),
            channel=channel,
            accounts=PostgresAccounts(pool, name),
            transactions=transactions,
            records=records,
            credentials=credentials,
            sent_codes=PostgresSentCodes(pool, self.hashes),
            totp=TotpFactor(credentials, records),
            recovery_codes=RecoveryCodes(credentials),
            passkeys=None if passkeys is None else Passkeys(name, passkeys, credentials, records, transactions),
            sightings=PostgresDeviceSightings(pool),
            device_events=PostgresDeviceEvents(pool),
            ways=PostgresLoginWays(pool),
        )


async def _sweep(cell: str, old: EndedSessions) -> None:
    """Delete what is too old to matter, until cancelled; what fails is tried again next time."""
    while True:
        await asyncio.sleep(_SWEEP_EVERY_S)
        try:
            await old.sweep()
        except DomainError as error:
            log.warning("old_sessions_not_swept", cell=cell, error=error.detail)
