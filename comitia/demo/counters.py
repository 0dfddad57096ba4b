"""What happened to the requests of a demo, counted where the voters stand."""

import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field

_RECENT_S = 5.0


@dataclass(slots=True)
class CellCounters:
    """One cell's requests and voters.

    Every vote request that is sent ends as exactly one of `unanswered`, `put_off`, `confirmed`, `again`, `refused` and
    `unexpected`.
    """

    sent: int = 0
    unanswered: int = 0  # the connection was cut
    put_off: int = 0  # 503 with Retry-After: sent again later
    accepted: int = 0  # voters whose vote was acknowledged, with 201 or 202
    confirmed: int = 0  # voters who hold a receipt
    again: int = 0  # repeats with the same key that got the first answer again
    refused: int = 0  # repeats with another key: 409 already_voted
    unexpected: int = 0

    @property
    def ended(self) -> int:
        """Requests that have an ending."""
        return self.unanswered + self.put_off + self.confirmed + self.again + self.refused + self.unexpected


@dataclass(slots=True)
class Counters:
    """All cells; latencies in seconds, from a vote request to its answer."""

    cells: dict[str, CellCounters]
    faults: Counter[str] = field(default_factory=Counter)  # what should not have happened, and how often
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    began_at: float = field(default_factory=time.monotonic)
    _recent: deque[tuple[float, float]] = field(default_factory=deque)

    @property
    def confirmed(self) -> int:
        """Voters who hold a receipt, of all cells."""
        return sum(cell.confirmed for cell in self.cells.values())

    def note_latency(self, seconds: float) -> None:
        """Note the time of one answer."""
        now = time.monotonic()
        self.latencies.append(seconds)
        self._recent.append((now, seconds))
        while self._recent and self._recent[0][0] < now - _RECENT_S:
            self._recent.popleft()

    def recent_rate(self) -> float:
        """Return the answers per second of the last five seconds."""
        span = min(_RECENT_S, time.monotonic() - self.began_at)
        return len(self._recent) / max(span, 0.001)

    def recent_latency(self) -> tuple[float, float]:
        """Return p50 and p99 of the last five seconds."""
        return percentiles([seconds for _, seconds in self._recent])

    def total(self) -> CellCounters:
        """Return the sum over the cells."""
        names = CellCounters.__slots__
        return CellCounters(*(sum(getattr(cell, name) for cell in self.cells.values()) for name in names))


def percentiles(values: list[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile, 0 where there are no values."""
    ordered = sorted(values) or [0.0]
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
