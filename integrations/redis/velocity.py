"""Velocity of admissions in one cell's Redis, counted under pseudonyms that expire."""

import time
from collections.abc import Callable, Sequence
from importlib.resources import files

from redis.asyncio import Redis

from domain.errors import ErrorCode
from domain.ports import AdmissionAttempt
from domain.risk import Velocity
from integrations.redis.connection import redis_failures

MINUTE_S = 60
HOUR_S = 3600
_DEVICE_VOTERS_MAX = 1000
_SCRIPT = files("integrations.redis").joinpath("velocity.lua").read_text()


class RedisVelocity:
    """Counts for all processes of a cell together; one script call for all attempts that came at once."""

    def __init__(self, redis: Redis, cell: str, *, now: Callable[[], float] = time.time) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._prefix = f"{cell}:velocity:"
        self._now = now

    async def observe(self, attempts: Sequence[AdmissionAttempt]) -> list[Velocity]:
        """Count the attempts and return what stands now, in order.

        Raises:
            DomainError: `velocity_unavailable`; whether they were counted is not known.
        """
        minute, hour = int(self._now()) // MINUTE_S, int(self._now()) // HOUR_S
        keys: list[str] = []
        arguments: list[int | bytes] = [2 * MINUTE_S, 2 * HOUR_S, _DEVICE_VOTERS_MAX]
        for attempt in attempts:
            device = attempt.device_pseudonym
            keys += (
                f"{self._prefix}voter:{minute}:{attempt.voter_pseudonym.hex()}",
                f"{self._prefix}device:{hour}:{device.hex() if device else ''}",
                f"{self._prefix}network:{minute}:{attempt.network_pseudonym.hex()}",
            )
            arguments.append(attempt.voter_pseudonym if device else b"")
        with redis_failures(ErrorCode.VELOCITY_UNAVAILABLE):
            counts = await self._script(keys=keys, args=arguments)
        return [Velocity(*counts[start : start + 3]) for start in range(0, len(counts), 3)]
