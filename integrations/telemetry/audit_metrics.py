"""Metrics and log events of audit logs."""

from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

log = structlog.get_logger(__name__)


class AuditMetrics:
    """Implements `SealingWatch`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._size = Gauge("audit_log_sealed_entries", "Entries under a signed tree head.", ["log"], registry=registry)
        self._sealed_at = Gauge(
            "audit_log_sealed_timestamp_seconds", "When a log was last found sealed.", ["log"], registry=registry
        )
        self._waiting = Gauge(
            "audit_log_oldest_waiting_seconds",
            "For how long the next entry had no place, when places were given last.",
            ["log"],
            registry=registry,
        )
        self._contradicted = Counter(
            "audit_log_contradictions", "Times that a log was not what was signed.", ["log"], registry=registry
        )

    def sealed(self, log_name: str, size: int) -> None:
        """A tree head of this size is signed and kept."""
        self._size.labels(log_name).set(size)
        self._sealed_at.labels(log_name).set_to_current_time()

    def waiting(self, log_name: str, age: timedelta) -> None:
        """Places were given, and the next entry has been without for this long; zero for none."""
        self._waiting.labels(log_name).set(age.total_seconds())

    def contradicted(self, log_name: str, detail: str) -> None:
        """What a database or a store has is not what was signed."""
        self._contradicted.labels(log_name).inc()
        log.error("audit_log_contradicted", log=log_name, detail=detail)
