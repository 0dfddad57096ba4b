"""Implements `VoteRisk`: what login and directory know, and velocity as Redis has it, or this process without Redis."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from api.shared_calls import SharedCalls
from domain.ports import AdmissionAttempt, RiskVerdict
from domain.risk import Velocity, VelocityCounter
from domain.vote_risk import VotePolicy, VoteSignals, judge_vote

SHARED_LIMIT_S = 0.04  # less than half of the 100 ms that a decision may take
_MINUTE_S, _HOUR_S = 60, 3600
_KEPT_MAX = 100_000  # voters, devices and networks, of each
_DEVICE_VOTERS_MAX = 100


class ProcessVelocity:
    """Counts what this process sees; bounded, the longest unseen are forgotten first."""

    def __init__(
        self,
        *,
        kept_max: int = _KEPT_MAX,
        device_voters_max: int = _DEVICE_VOTERS_MAX,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Keep `kept_max` voters, devices and networks each, and `device_voters_max` voters of one device."""
        self._kept_max = kept_max
        self._device_voters_max = device_voters_max
        self._now = now
        self._voters: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # minute, attempts
        self._networks: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._devices: OrderedDict[bytes, tuple[int, set[bytes]]] = OrderedDict()  # hour, voters

    async def observe(self, attempts: Sequence[AdmissionAttempt]) -> list[Velocity]:
        """Count the attempts and return what stands now, in order."""
        minute, hour = int(self._now()) // _MINUTE_S, int(self._now()) // _HOUR_S
        return [
            Velocity(
                self._count(self._voters, attempt.voter_pseudonym, minute),
                self._device(attempt.device_pseudonym, attempt.voter_pseudonym, hour),
                self._count(self._networks, attempt.network_pseudonym, minute),
            )
            for attempt in attempts
        ]

    def _count(self, kept: OrderedDict[bytes, tuple[int, int]], pseudonym: bytes, minute: int) -> int:
        since, count = kept.get(pseudonym, (minute, 0))
        count = count + 1 if since == minute else 1
        kept[pseudonym] = (minute, count)
        kept.move_to_end(pseudonym)
        if len(kept) > self._kept_max:
            kept.popitem(last=False)
        return count

    def _device(self, device: bytes | None, voter: bytes, hour: int) -> int:
        if device is None:
            return 0
        since, voters = self._devices.get(device, (hour, set()))
        if since != hour:
            voters = set()
        if len(voters) < self._device_voters_max:
            voters.add(voter)
        self._devices[device] = (hour, voters)
        self._devices.move_to_end(device)
        if len(self._devices) > self._kept_max:
            self._devices.popitem(last=False)
        return len(voters)


class VelocityRisk:
    """Judges by session, device and velocity: as Redis has it, and never less than what this process has seen itself.

    Losing Redis stops no voting: what this process sees is then judged alone, by the same rules.
    """

    def __init__(
        self,
        shared: VelocityCounter,
        own: VelocityCounter,
        policy: VotePolicy,
        *,
        limit_s: float = SHARED_LIMIT_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._own = own
        self._policy = policy
        self._calls = SharedCalls("velocity", limit_s=limit_s, now=now)

    @property
    def is_degraded(self) -> bool:
        """Whether the last count was this process's alone."""
        return self._calls.is_away

    async def assess(self, attempts: Sequence[AdmissionAttempt]) -> list[RiskVerdict]:
        """Return one verdict for each attempt, in order."""
        velocities = await self._observe(attempts)
        return [
            judge_vote(
                VoteSignals(
                    velocity, attempt.risk_band, attempt.device_flags, attempt.device_unseen_for, attempt.event
                ),
                self._policy,
            )
            for attempt, velocity in zip(attempts, velocities, strict=True)
        ]

    async def _observe(self, attempts: Sequence[AdmissionAttempt]) -> Sequence[Velocity]:
        own = await self._own.observe(attempts)
        shared = await self._calls.ask(lambda: self._shared.observe(attempts))
        return own if shared is None else [_larger(one, other) for one, other in zip(own, shared, strict=True)]


def _larger(one: Velocity, other: Velocity) -> Velocity:
    return Velocity(
        max(one.voter_attempts, other.voter_attempts),
        max(one.device_voters, other.device_voters),
        max(one.network_attempts, other.network_attempts),
    )
