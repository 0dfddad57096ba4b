"""How many answers of one kind an address may hold open in this process, so that no single one takes all its places."""

from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi import Request

from api.http.limits import FrameworkRequest, LimitedRequest, Limits
from domain.errors import DomainError, ErrorCode
from domain.limits import Policy
from integrations.telemetry.metrics import LimitMetrics

RETRY_AFTER_S: Final = 30  # another process may have room at once; here somebody must leave


class HeldPlaces:
    """Counts open answers by address; an address without one costs nothing."""

    def __init__(self, policy: Policy, metrics: LimitMetrics) -> None:
        """Let each address hold `policy.quota` at once."""
        self._metrics = metrics
        self._policy = policy
        self._lines = (
            f'ratelimit-policy: "{policy.name}";q={policy.quota};qu="concurrent-requests"\r\n'
            f'ratelimit: "{policy.name}";r=0\r\n'
        ).encode("ascii")
        self._held: dict[bytes, int] = {}

    def take(self, request: LimitedRequest, address: bytes) -> None:
        """Count an answer to an address until it is given back. Raises DomainError `rate_limited`."""
        held = self._held.get(address, 0)
        if held >= self._policy.quota:
            self._metrics.refused(self._policy)
            request.limit_lines = self._lines
            detail = f"the limit {self._policy.name} is used up"
            raise DomainError(ErrorCode.RATE_LIMITED, detail, retry_after_s=RETRY_AFTER_S)
        self._held[address] = held + 1

    def give_back(self, address: bytes) -> None:
        """Forget one answer to an address."""
        left = self._held.get(address, 0) - 1
        if left > 0:
            self._held[address] = left
        else:
            self._held.pop(address, None)


def holding(limits: Limits, policy: Policy) -> Callable[[Request], AsyncIterator[None]]:
    """Return a dependency that has an address hold a place until its answer is out, or nobody waits for it."""
    held = HeldPlaces(policy, limits.strangers.metrics)

    async def hold(request: Request) -> AsyncIterator[None]:
        counted = FrameworkRequest(request)
        address = limits.places.of(counted.client).address
        held.take(counted, address)
        try:
            yield
        finally:
            held.give_back(address)

    return hold
