"""Token buckets that all processes of a service share, in one cell's Redis, under pseudonyms that expire."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from redis.asyncio import Redis

from domain.errors import ErrorCode
from domain.limits import Policy
from domain.pseudonyms import pseudonym
from integrations.redis.connection import redis_failures

GONE_AFTER_S = 5.0  # a process that told nothing for so long has no share
_MICROSECONDS = 1_000_000
_SCRIPT = files("integrations.redis").joinpath("limits.lua").read_text()


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken from one bucket: its policy, whose it is, and the seconds it needs to flow in again."""

    policy: Policy
    subject: str | bytes
    needs_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How many processes share the buckets, and in how many seconds each bucket is full again, in order."""

    processes: int
    full_in_s: Sequence[float]


class RedisBuckets:
    """Books what was taken; one script call for many buckets."""

    def __init__(self, redis: Redis, cell: str, service: str, key: bytes) -> None:
        """Name buckets by a hash under a 32-byte `key`; `service` is what shares are counted among."""
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._prefix = f"{cell}:limits:"
        self._processes = f"{cell}:limits:processes:{service}"
        self._process = secrets.token_hex(8)
        self._key = key

    async def book(self, taken: Sequence[Taken]) -> Standing:
        """Book what was taken, whether or not it was there to take, and return what stands now.

        Raises:
            DomainError: `limits_unavailable`; whether it was booked is not known.
        """
        keys = [self._processes, *(self._name(one) for one in taken)]
        arguments: list[str | int] = [self._process, round(GONE_AFTER_S * 1000)]
        arguments += [max(1, round(one.needs_s * _MICROSECONDS)) for one in taken]
        with redis_failures(ErrorCode.LIMITS_UNAVAILABLE):
            processes, *full_in = await self._script(keys=keys, args=arguments)
        return Standing(processes, [microseconds / _MICROSECONDS for microseconds in full_in])

    async def leave(self) -> None:
        """Give up this process's share at once, which the others else do without for `GONE_AFTER_S`. Safe to repeat.

        Raises:
            DomainError: `limits_unavailable`.
        """
        with redis_failures(ErrorCode.LIMITS_UNAVAILABLE):
            await self._redis.zrem(self._processes, self._process)

    def _name(self, taken: Taken) -> str:
        """Return the key of a bucket; with other numbers it is another bucket, so no old debt meets a new limit."""
        policy = taken.policy
        subject = taken.subject if isinstance(taken.subject, str) else taken.subject.hex()
        whose = pseudonym(self._key, "limits", policy.name, subject).hex()
        return f"{self._prefix}{policy.name}:{policy.quota}:{policy.window_s}:{whose}"
