"""The limits of one cell as this process keeps them: decided at once from what is known here, told in batches."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from domain.errors import DomainError
from domain.limit_buckets import KEPT_MAX, Buckets, Owed
from domain.limits import Policy, client_policy
from integrations.redis.limits import Standing, Taken
from integrations.telemetry.metrics import LimitMetrics

TELL_EVERY_S: Final = 0.1
BEAT_EVERY_S: Final = 1.0  # with nothing to tell: so that the others know how many share
PAUSE_S: Final = 1.0  # after a failure, before the store is asked again
_TOLD_AT_ONCE: Final = 500  # buckets of one script call: about a millisecond of the server's time
_CLIENT_LIMITS_MAX: Final = 100  # different limits of machine clients; there are as many as staff has made up

log = structlog.get_logger(__name__)


class BucketStore(Protocol):
    """Keeps the buckets that processes share."""

    async def book(self, taken: Sequence[Taken]) -> Standing:
        """Book what was taken; raises DomainError `limits_unavailable`."""
        ...


class CellLimits:
    """Never waits for the store and never fails: while the store is away, this process limits alone."""

    def __init__(
        self,
        cell: str,
        store: BucketStore,
        policies: Mapping[str, Policy],
        metrics: LimitMetrics,
        *,
        kept_max: int = KEPT_MAX,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cell = cell
        self.metrics = metrics
        self.now = now
        self._store = store
        self._kept_max = kept_max
        self._owed: list[Owed] = []
        self._policies = policies
        self._buckets: dict[Policy, Buckets] = {}
        self._processes = 1
        self._looked_at = now()
        self._told_at = float("-inf")  # the first telling is due at once: the others must know of us
        self._failing = False
        metrics.watch(cell, self.kept, self.owed)

    @property
    def is_alone(self) -> bool:
        """Whether this process limits by what it saw itself only."""
        return self._failing

    def buckets(self, policy: Policy) -> Buckets:
        """Return the buckets of a policy of the table, with the numbers that the settings give it."""
        return self._of(self._policies[policy.name])

    def of_client(self, requests_per_minute: int) -> Buckets:
        """Return the buckets of all machine clients with this limit."""
        policy = client_policy(requests_per_minute)
        if policy not in self._buckets:
            own = [known for known in self._buckets if known.name == policy.name]
            if len(own) >= _CLIENT_LIMITS_MAX:
                del self._buckets[own[0]]
        return self._of(policy)

    def kept(self) -> int:
        """Return how many buckets this process has in memory."""
        return sum(map(len, self._buckets.values()))

    def owed(self) -> int:
        """Return how many buckets wait to be told."""
        return len(self._owed)

    async def run(self) -> None:
        """Tell every 100 ms, until cancelled."""
        task = asyncio.current_task()
        while task is not None and not task.cancelling():  # the driver may swallow a cancellation in its own waiting
            await asyncio.sleep(PAUSE_S if self._failing else TELL_EVERY_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell the store what was taken, and take over what it knows.

        Whatever a call that failed was to tell is not told again: it may have been booked, and this process goes on
        counting it. What is taken while the store is away is not told later either, when it has long flowed in again.
        """
        since, self._looked_at = self._looked_at, self.now()
        if not self._owed and not self._failing and self._looked_at - self._told_at < BEAT_EVERY_S:
            return
        self._told_at = self._looked_at
        owed, told = self._owed.copy(), 0
        self._owed.clear()
        try:
            for start in range(0, len(owed) or 1, _TOLD_AT_ONCE):
                await self._book(owed[start : start + _TOLD_AT_ONCE])
                told = start + _TOLD_AT_ONCE
        except DomainError as error:
            for buckets, _, bucket in owed[told:]:
                buckets.tell(bucket)
            self._fails(error)
        else:
            self._works()
            if owed:
                self.metrics.told(self.now() - since)

    async def _book(self, owed: Sequence[Owed]) -> None:
        taken = [Taken(buckets.policy, subject, buckets.tell(bucket)) for buckets, subject, bucket in owed]
        asked_at = self.now()
        standing = await self._store.book(taken)
        now = self.now()
        self._share(standing.processes)
        for (buckets, _, bucket), full_in_s in zip(owed, standing.full_in_s, strict=True):
            buckets.learn(bucket, asked_at, full_in_s, now)

    def _of(self, policy: Policy) -> Buckets:
        found = self._buckets.get(policy)
        if found is None:
            found = self._buckets[policy] = Buckets(policy, self._owed, kept_max=self._kept_max)
            found.share_with(self._processes)
        return found

    def _share(self, processes: int) -> None:
        if processes != self._processes:
            self._processes = processes
            for buckets in self._buckets.values():
                buckets.share_with(processes)

    def _fails(self, error: DomainError) -> None:
        self.metrics.failed(self.cell)
        if not self._failing:
            log.warning("limits_alone", cell=self.cell, code=error.code, detail=error.detail)
        self._failing = True
        self._share(1)

    def _works(self) -> None:
        if self._failing:
            log.info("limits_shared", cell=self.cell)
            self.metrics.restored(self.cell)
        self._failing = False
