"""How many streams an address may hold open in this process, so that no single one takes all its connections."""

from typing import Final

from api.http.limits import LimitedRequest
from domain.errors import DomainError, ErrorCode
from domain.limits import Policy, Subject
from integrations.telemetry.metrics import LimitMetrics

RETRY_AFTER_S: Final = 30  # another process may have room at once; here somebody must leave


class HeldStreams:
    """Counts open streams by address; an address without one costs nothing."""

    def __init__(self, at_most: int, metrics: LimitMetrics) -> None:
        self._at_most = at_most
        self._metrics = metrics
        self._policy = Policy("stream-held", Subject.ADDRESS, at_most, 1)
        self._held: dict[bytes, int] = {}

    def take(self, request: LimitedRequest, address: bytes) -> None:
        """Count a stream of an address until it is given back. Raises DomainError `rate_limited`."""
        held = self._held.get(address, 0)
        if held >= self._at_most:
            self._metrics.refused(self._policy)
            request.limit_lines = (
                b'ratelimit-policy: "stream-held";q=%d;qu="concurrent-requests"\r\nratelimit: "stream-held";r=0\r\n'
                % self._at_most
            )
            raise DomainError(ErrorCode.RATE_LIMITED, "the limit stream-held is used up", retry_after_s=RETRY_AFTER_S)
        self._held[address] = held + 1

    def give_back(self, address: bytes) -> None:
        """Forget one stream of an address."""
        left = self._held.get(address, 0) - 1
        if left > 0:
            self._held[address] = left
        else:
            self._held.pop(address, None)
