"""Limits for tests of what stands behind them: of one process alone, and never told to anybody."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from api.http.limiting import CellLimits
from api.http.limits import Limits
from domain.limits import policies_with
from integrations.redis.limits import Standing, Taken
from integrations.telemetry.metrics import LimitMetrics


class LonelyStore:
    """A store that knows what one process tells it."""

    def __init__(self) -> None:
        self.told: list[Taken] = []

    async def book(self, taken: Sequence[Taken]) -> Standing:
        self.told += taken
        return Standing(1, [0.0] * len(taken))


def lonely_limits(registry: CollectorRegistry | None = None, **changed: tuple[int, int]) -> Limits:
    """Return the limits of two cells; `changed` are quotas and windows by name, as `vote_token=(5, 60)`."""
    metrics = LimitMetrics(registry or CollectorRegistry())
    policies = policies_with(changed)
    return Limits({cell: CellLimits(cell, LonelyStore(), policies, metrics) for cell in ("eu", "us")})
