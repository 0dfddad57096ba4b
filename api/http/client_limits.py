"""Limits of machine clients: a bucket each, refilled evenly, in this process."""

import math
from collections import OrderedDict

from domain.access import MachineClient
from domain.errors import DomainError, ErrorCode

_KEPT_MAX = 10_000
_MINUTE_S = 60


class ClientLimits:
    """Takes one token per request from a bucket that holds a minute's worth at most.

    Each process has its own buckets, so a client may use its limit once per process.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, and when

    def take(self, client: MachineClient, now: float) -> None:
        """Count a request at `now` (seconds).

        Raises:
            DomainError: `rate_limited`, with the seconds until the next one is permitted.
        """
        full = float(client.requests_per_minute)
        left, at = self._buckets.get(client.client_id, (full, now))
        left = min(full, left + max(0.0, now - at) * full / _MINUTE_S)
        if left < 1:
            raise DomainError(ErrorCode.RATE_LIMITED, retry_after_s=max(1, math.ceil((1 - left) * _MINUTE_S / full)))
        self._buckets[client.client_id] = (left - 1, now)
        self._buckets.move_to_end(client.client_id)
        if len(self._buckets) > _KEPT_MAX:
            self._buckets.popitem(last=False)
