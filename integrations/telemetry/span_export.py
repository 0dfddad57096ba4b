"""Spans on their way to the collector: so many may wait, and what is dropped is counted."""

from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from integrations.telemetry.waiting_metrics import WaitingMetrics

SPANS_MAX: Final = 2048


class BoundedExport(BatchSpanProcessor):
    """The SDK's processor, which drops the oldest span for a new one where `spans_max` wait and says so in its log."""

    def __init__(
        self, exporter: SpanExporter, metrics: WaitingMetrics | None = None, *, spans_max: int = SPANS_MAX
    ) -> None:
        super().__init__(exporter, max_queue_size=spans_max)
        self._metrics = metrics
        self._spans_max = spans_max
        if metrics is not None:
            metrics.watch_spans(self.waiting)

    def waiting(self) -> int:
        """Return how many spans wait."""
        return len(self._batch_processor._queue)  # noqa: SLF001 - the SDK shows it to its own meters only

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; count the one that goes for it."""
        if self._metrics is not None and self.waiting() >= self._spans_max:
            self._metrics.spans_dropped.inc()
        super().on_end(span)
