"""Token buckets as one process knows them: it decides alone, at once, and tells later what it took.

The arithmetic is GCRA's: a bucket is the instant at which it will be full again, and every request moves that instant
on by one interval. Many processes share a bucket by telling a store what they took and hearing the common instant.
Between two tellings a process takes no more than its share of what it last knew to be left, so together they let
through at most twice the quota, and per process `SHARE_LEAST`, one request that it has not told yet, and what flows
in between two tellings. What was too much is owed: nothing is permitted until it has flowed in again, so over a
longer time the rate is exact.
"""

from typing import Final

import msgspec

from domain.limits import Policy

SHARE_LEAST: Final = 5  # requests: the share of a process is not less, or a handful at once would be refused
KEPT_MAX: Final = 65_536  # buckets of one policy; about 10 MB

_SHARED_ANEW_S: Final = 0.1  # when what was withheld is shared anew: with the next telling
_WINDOWS_OWED: Final = (
    2  # by each process at most, where none knew of the others: one, and what flows in until it hears
)
_ROUNDING_S: Final = 1e-9  # what adding floats leaves behind


class Bucket(msgspec.Struct, gc=False):
    """One subject's bucket; times in seconds of one monotonic clock."""

    full_at: float  # as far as known here, everything that this process took included
    withheld_s: float  # of what is left, the share of other processes
    untold: int = 1
    queued: bool = False  # from the second request on: the one request of an honest voter costs no telling


Owed = tuple["Buckets", "str | bytes", Bucket]


class Buckets:
    """The buckets of one policy; bounded, what was not used for longest is forgotten first."""

    __slots__ = (
        "_interval_s",
        "_kept_half",
        "_old",
        "_queue",
        "_shares",
        "_window_s",
        "_withheld_s",
        "_young",
        "policy",
    )

    def __init__(self, policy: Policy, queue: list[Owed], *, kept_max: int = KEPT_MAX) -> None:
        """Put what is to be told into `queue`, each bucket once until it is told."""
        self.policy = policy
        self._queue = queue
        self._interval_s = policy.interval_s
        self._window_s = float(policy.window_s)
        self._kept_half = max(1, kept_max // 2)
        self._young: dict[str | bytes, Bucket] = {}
        self._old: dict[str | bytes, Bucket] = {}
        self._shares = 1
        self._withheld_s = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def share_with(self, processes: int) -> None:
        """Take shares as one of so many processes from now on; of one, nothing is withheld."""
        self._shares = max(1, processes)
        self._withheld_s = self._withhold(self.policy.quota)

    def take(self, subject: str | bytes, now: float) -> float:
        """Take one request and return the seconds until the bucket is full again.

        Where none is left nothing is taken, and the answer is negative: how long to wait, times -1.
        """
        bucket = self._young.get(subject)
        if bucket is None:
            bucket = self._old.pop(subject, None)
            if bucket is None:
                self._keep(subject, Bucket(now + self._interval_s, self._withheld_s))
                return self._interval_s
            self._keep(subject, bucket)
        ahead = bucket.full_at - now
        ahead = self._interval_s if ahead < 0.0 else ahead + self._interval_s
        over = ahead - self._window_s - _ROUNDING_S
        if over > 0.0:
            return -over
        if self._shares > 1 and over + bucket.withheld_s > 0.0:
            return -_SHARED_ANEW_S
        bucket.full_at = now + ahead
        bucket.untold += 1
        if not bucket.queued:
            bucket.queued = True
            self._queue.append((self, subject, bucket))
        return ahead

    def left(self, subject: str | bytes, now: float) -> float:
        """Return what `take` would, and take nothing."""
        bucket = self._young.get(subject) or self._old.get(subject)
        ahead = self._interval_s + (max(0.0, bucket.full_at - now) if bucket is not None else 0.0)
        return ahead if ahead <= self._window_s else self._window_s - ahead

    def remaining(self, ahead_s: float) -> int:
        """Return how many requests are left in a bucket that is full again in `ahead_s`."""
        return max(0, int((self._window_s - ahead_s) / self._interval_s + 1e-6))

    def tell(self, bucket: Bucket) -> float:
        """Return the seconds that the requests not told yet move the common instant on; they count as told."""
        untold, bucket.untold, bucket.queued = bucket.untold, 0, False
        return untold * self._interval_s

    def learn(self, bucket: Bucket, told_at: float, ahead_s: float, now: float) -> None:
        """Take over what the store knew when it was told: the bucket is full again `ahead_s` after `told_at`.

        What this process knows better stays, so a store that lost its data forgives nobody. Nor does it keep anybody
        out for longer than all processes together can have let through too much: a clock is wrong there.
        """
        ahead_s = min(ahead_s, (1 + self._shares) * _WINDOWS_OWED * self._window_s)
        bucket.full_at = max(bucket.full_at, told_at + ahead_s + bucket.untold * self._interval_s)
        left_s = now + self._window_s - bucket.full_at
        bucket.withheld_s = self._withhold(left_s / self._interval_s)

    def _withhold(self, left: float) -> float:
        return max(0.0, left - max(SHARE_LEAST, left / self._shares)) * self._interval_s

    def _keep(self, subject: str | bytes, bucket: Bucket) -> None:
        if len(self._young) >= self._kept_half:
            self._old, self._young = self._young, {}
        self._young[subject] = bucket
