"""What a process takes and what it refuses, by kind of work, and how late it is."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from domain.priorities import Work


class WorkMetrics:
    """One per process; counts come in lumps, since counting one by one would cost as much as refusing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._admitted = Counter("work_admitted", "Requests taken, by kind of work.", ["work"], registry=registry)
        self._refused = Counter(
            "work_refused",
            "Requests refused for load, by kind of work and reason.",
            ["work", "reason"],
            registry=registry,
        )
        self._in_flight = Gauge("work_in_flight", "Requests being worked on, by kind.", ["work"], registry=registry)
        self.delay_seconds = Gauge(
            "loop_delay_seconds",
            "How late the process does what is due: the least of the last samples.",
            registry=registry,
        )

    def admitted(self, work: Work, count: int) -> None:
        """Count requests that were taken."""
        self._admitted.labels(str(work)).inc(count)

    def refused(self, work: Work, reason: str, count: int) -> None:
        """Count requests that were refused; `reason` is one of a fixed few."""
        self._refused.labels(str(work), reason).inc(count)

    def in_flight(self, work: Work, count: int) -> None:
        """Set how many requests of a kind are being worked on."""
        self._in_flight.labels(str(work)).set(count)
