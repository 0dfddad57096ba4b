"""Metrics and log events of the archive of histories."""

from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

log = structlog.get_logger(__name__)


class ArchiveMetrics:
    """Implements `ArchiveWatch`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._complete = Gauge(
            "archive_complete_until_timestamp_seconds",
            "Everything that closed before is archived.",
            ["cell"],
            registry=registry,
        )
        self._retention = Gauge(
            "archive_retention_seconds",
            "For how long the server keeps a history after its end.",
            ["cell"],
            registry=registry,
        )
        self._late = Gauge(
            "archive_later_than_retention",
            "1 where the server may have forgotten what is not archived.",
            ["cell"],
            registry=registry,
        )
        self._histories = Counter("archive_histories", "Histories archived.", ["cell"], registry=registry)
        self._bytes = Counter("archive_bytes", "Bytes of files of histories.", ["cell"], registry=registry)
        self._left_out = Counter(
            "archive_left_out", "Histories that are not archived and will not be.", ["cell", "why"], registry=registry
        )
        self._contradicted = Counter(
            "archive_contradictions", "Times that a file was not what was written.", ["cell"], registry=registry
        )

    def looked(self, cell: str, complete_until: datetime | None, retention: timedelta) -> None:
        """So far it is complete; the server forgets what closed longer ago than `retention`."""
        self._retention.labels(cell).set(retention.total_seconds())
        if complete_until is None:
            return
        self._complete.labels(cell).set(complete_until.timestamp())
        is_late = datetime.now(UTC) - complete_until >= retention
        self._late.labels(cell).set(is_late)
        if is_late:
            log.error("archive_later_than_retention", cell=cell, retention_s=retention.total_seconds())

    def lengthened(self, cell: str, retention: timedelta, *, done: bool) -> None:
        """The archive is so late that the server has to keep for this long what ends now; `done`: it does."""
        event = "archive_retention_lengthened" if done else "archive_retention_too_short"
        log.error(event, cell=cell, retention_s=retention.total_seconds())

    def noted(self, cell: str, archived: int, size_bytes: int) -> None:
        """A file is noted."""
        self._histories.labels(cell).inc(archived)
        self._bytes.labels(cell).inc(size_bytes)

    def left_out(self, cell: str, workflow_id: str, run_id: str, why: str) -> None:
        """A history is not archived and will not be."""
        self._left_out.labels(cell, why).inc()
        log.error("history_left_out_of_archive", cell=cell, workflow=workflow_id, run=run_id, why=why)

    def contradicted(self, cell: str, detail: str) -> None:
        """A file is not what was written."""
        self._contradicted.labels(cell).inc()
        log.error("archive_contradicted", cell=cell, detail=detail)
