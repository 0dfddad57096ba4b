"""Takes texts of exceptions out of spans: drivers and validators quote rows and input, nullifiers and choices too."""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status
from opentelemetry.util.types import AttributeValue

from integrations.telemetry.redaction import names_secret, redact

_TEXTS: Final = frozenset({"exception.message", "exception.stacktrace"})


class Scrubbing(SpanProcessor):
    """Passes finished spans on without what must not leave the process; the span that was made is left as it is."""

    def __init__(self, behind: SpanProcessor) -> None:
        self._behind = behind

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass on the start of a span."""
        self._behind.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on a copy: events without texts, a status without anything behind the exception's type."""
        description = span.status.description
        self._behind.on_end(
            ReadableSpan(
                name=span.name,
                context=span.get_span_context(),
                parent=span.parent,
                resource=span.resource,
                attributes=_scrub(span.attributes),
                events=[Event(event.name, _scrub(event.attributes), event.timestamp) for event in span.events],
                links=span.links,
                kind=span.kind,
                status=Status(span.status.status_code, description.partition(":")[0] if description else None),
                start_time=span.start_time,
                end_time=span.end_time,
                instrumentation_scope=span.instrumentation_scope,
            )
        )

    def shutdown(self) -> None:
        """Stop what is behind."""
        self._behind.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits behind."""
        return self._behind.force_flush(timeout_millis)


def _scrub(attributes: object) -> dict[str, AttributeValue]:
    found = dict(attributes) if hasattr(attributes, "items") and attributes else {}  # type: ignore[call-overload]
    return {
        name: redact(value) if isinstance(value, str) else value
        for name, value in found.items()
        if name not in _TEXTS and not names_secret(name.replace(".", "_"))
    }
