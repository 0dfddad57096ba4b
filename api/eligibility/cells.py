"""Opens the desks of a process's cells; a cell that is down keeps only its own voters waiting."""

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from api.background import run_beside
from api.eligibility.brought_events import EventDesk, EventSource, EventStores, EventSubmissions, NoEventDesk
from api.eligibility.desk import Desk
from api.eligibility.telemetry import DeskMetrics
from api.eligibility.velocity_risk import ProcessVelocity, VelocityRisk
from api.eligibility.voting_tokens import VotingTokens
from api.http.used_proofs import UsedProofs
from domain.device_policy import CURRENT_DEVICE_POLICY, DEVICE_POLICIES, DevicePolicy
from domain.ports import KeyManagement
from domain.risk import Threshold
from domain.sessions import RevokedSessions
from domain.vote_risk import CURRENT_VOTE_POLICY, VotePolicy
from integrations.postgres.device_events import PostgresDeviceEvents
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.directory import Directory
from integrations.postgres.electorates import CachedElectorates
from integrations.postgres.pool import NotDurableError, Pool, open_pool, pool_on_demand
from integrations.postgres.roles import IDENTITY
from integrations.reaching import any_answers, reach_cells
from integrations.redis.connection import open_redis
from integrations.redis.ended_sessions import EndedSessionsChannel
from integrations.redis.velocity import RedisVelocity
from integrations.revocation import RevocationFeed
from integrations.settings import Settings
from integrations.telemetry.metrics import DatabaseMetrics, DeskQueueMetrics, RiskMetrics
from integrations.telemetry.waiting_metrics import WaitingMetrics

POOL_SIZE = 4  # two groups are looked up at once; surveys and readiness take the rest
REDIS_ANSWER_TIMEOUT_S = 1.0
_EVENT_CONNECTIONS = 2  # of their own: those who bring a device event take none from those who bring none
_EVENT_STATEMENT_S = 2.0  # somebody waits, and nobody else for it
_DENY_FACTOR = 4  # a denial comes at this many times a challenge


def vote_policy(settings: Settings) -> VotePolicy:
    """Return the current policy, with the thresholds that the settings ask for."""
    voter, device = settings.risk_voter_attempts_per_minute, settings.risk_device_voters_per_hour
    return replace(
        CURRENT_VOTE_POLICY,
        voter_attempts_per_minute=Threshold(voter, voter * _DENY_FACTOR),
        device_voters_per_hour=Threshold(device, device * _DENY_FACTOR),
        network_attempts_per_minute=Threshold(settings.risk_network_attempts_per_minute),
    )


def device_policy(policy: VotePolicy) -> DevicePolicy:
    """Return the rules that the devices of votes are judged by."""
    version = policy.device_policy_version
    return CURRENT_DEVICE_POLICY if version is None else DEVICE_POLICIES[version]


class Cells:
    """The desks of this process, by cell; they grow as cells are reached."""

    def __init__(
        self,
        settings: Settings,
        *,
        keys: KeyManagement,
        used: UsedProofs,
        tokens: VotingTokens,
        pseudonym_key: bytes,
        database: DatabaseMetrics,
        risk: RiskMetrics,
        queue: DeskQueueMetrics,
        waiting: WaitingMetrics,
        events: EventSource | None = None,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._used = used
        self._tokens = tokens
        self._pseudonym_key = pseudonym_key
        self._database = database
        self._risk = risk
        self._queue = queue
        self._waiting = waiting
        self._events = events
        self._pools: dict[str, Pool] = {}
        self.desks: dict[str, Desk] = {}
        self.event_desks: dict[str, EventSubmissions] = {}
        self.revoked = RevokedSessions()

    async def open(self, lifetime: AsyncExitStack) -> None:
        """Open every cell that can be reached; the others follow when they can.

        Raises:
            NotDurableError: a database would acknowledge what a crash can undo.
        """
        await reach_cells(self._settings.cells, self._open, lifetime, final=(NotDurableError,))

    async def ready(self) -> bool:
        """Tell whether voters of some cell can be admitted now."""
        return await any_answers(partial(pool.fetchval, "SELECT true", timeout=1) for pool in self._pools.values())

    async def _open(self, name: str, stack: AsyncExitStack) -> None:
        cell = self._settings.cells[name]
        pool = await open_pool(
            cell.database,
            self._settings,
            IDENTITY,
            size=POOL_SIZE,
            watch=self._waiting.watch_pool(name, IDENTITY),
        )
        stack.push_async_callback(pool.close)
        watch = self._waiting.watch_redis(f"velocity-{name}")
        redis = open_redis(cell.redis, answer_timeout_s=REDIS_ANSWER_TIMEOUT_S, connections=POOL_SIZE, watch=watch)
        stack.push_async_callback(redis.aclose)
        listening = open_redis(cell.redis, answer_timeout_s=REDIS_ANSWER_TIMEOUT_S, connections=1)
        stack.push_async_callback(listening.aclose)
        await RevocationFeed(name, self.revoked, pool, EndedSessionsChannel(listening, name)).open(stack, run_beside)
        self._pools[name] = pool
        policy = vote_policy(self._settings)
        own = ProcessVelocity(device_voters_max=self._settings.risk_device_voters_per_hour * _DENY_FACTOR)
        desk = Desk(
            name,
            directory=Directory(pool, name),
            electorates=CachedElectorates(pool, self._keys),
            risk=VelocityRisk(RedisVelocity(redis, name), own, policy),
            used=self._used.of(name),
            tokens=self._tokens,
            pseudonym_key=self._pseudonym_key,
            telemetry=DeskMetrics(name, self._database, self._risk),
        )
        self.event_desks[name] = await self._event_desk(name, desk, policy, stack)
        self.desks[name] = desk
        self._queue.watch(name, desk.waiting)

    async def _event_desk(self, name: str, desk: Desk, policy: VotePolicy, stack: AsyncExitStack) -> EventSubmissions:
        if self._events is None:
            return NoEventDesk(desk)
        pool = await pool_on_demand(
            self._settings.cells[name].database,
            self._settings,
            IDENTITY,
            size=_EVENT_CONNECTIONS,
            watch=self._waiting.watch_pool(name, "events"),
            lock_timeout="500ms",
            command_timeout=_EVENT_STATEMENT_S,
            timeout=_EVENT_STATEMENT_S,
        )
        stack.push_async_callback(pool.close)
        stores = EventStores(PostgresDeviceEvents(pool), PostgresDeviceSightings(pool))
        return EventDesk(desk, self._events, stores, policy=device_policy(policy), pseudonym_key=self._pseudonym_key)
