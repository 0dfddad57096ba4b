"""Spans and W3C trace context: through HTTP, Kafka headers and Temporal headers."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from random import random
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio.client import OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.contrib.opentelemetry import TracingInterceptor

from integrations.telemetry.request_trace import RequestTrace, TraceSink, parse_traceparent
from integrations.telemetry.scrubbing import Scrubbing
from integrations.telemetry.span_export import BoundedExport
from integrations.telemetry.span_names import SpanName
from integrations.telemetry.waiting_metrics import WaitingMetrics

SLOW_S: Final = 0.5  # the latency objective of a vote; what is slower is always kept
EXPORT_S: Final = 3.0  # a collector that hangs must not hold a stopping process
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_current: ContextVar[RequestTrace | None] = ContextVar("comitia_request_trace", default=None)


class _FollowedOnly(TracingInterceptor):
    """Starts an execution untraced where no request is followed: a new trace would travel with it to no use."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - the SDK's name
        return _FollowedOnlyClient(super().intercept_client(next), next)


class _FollowedOnlyClient(OutboundInterceptor):
    def __init__(self, traced: OutboundInterceptor, plain: OutboundInterceptor) -> None:
        super().__init__(traced)
        self._plain = plain

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:  # noqa: A002
        followed = otel.get_current_span().get_span_context().is_valid
        return await (self.next if followed else self._plain).start_workflow(input)


class Tracing:
    """One process's tracer provider. Ordinary spans follow their parent, roots are kept by ratio.

    Requests are traced after the fact (`begin_request`), so that errors, slow and suspicious ones are kept always.
    """

    def __init__(
        self,
        *,
        service: str,
        environment: str,
        region: str,
        build: str,
        ratio: float,
        otlp_endpoint: str = "",
        processors: Iterable[SpanProcessor] = (),
        slow_s: float = SLOW_S,
        waiting: WaitingMetrics | None = None,
    ) -> None:
        resource = Resource(
            {
                "service.name": service,
                "service.version": build,
                "deployment.environment.name": environment,
                "cloud.region": region,
            }
        )
        self.provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False
        )
        behind = list(processors)
        if otlp_endpoint:
            exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
            behind.append(BoundedExport(exporter, waiting))
        scrubbed = tuple(Scrubbing(processor) for processor in behind)
        for processor in scrubbed:
            self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("comitia")
        self._ratio = ratio
        self._sink = TraceSink(resource=resource, processors=scrubbed, slow_s=slow_s)

    def begin_request(self, traceparent: bytes | None, started_at: float) -> RequestTrace:
        """Return the trace of a request that began at `started_at` (`time.perf_counter()`).

        A well-formed `traceparent` is joined; it is kept where its flag says so, and else as often as any other.
        The flags of strangers are cleared before (`ClientAddresses.believed`).
        """
        sampled = random() < self._ratio  # noqa: S311
        parent = parse_traceparent(traceparent) if traceparent is not None else None
        if parent is None:
            return RequestTrace(self._sink, started_at, sampled=sampled)
        return RequestTrace(
            self._sink, started_at, sampled=sampled or parent[2], trace_id=parent[0], parent_id=parent[1]
        )

    def temporal_interceptor(self) -> TracingInterceptor:
        """Return the interceptor for Temporal clients and workers.

        It carries context in Temporal's headers; an execution that is started outside any trace has no spans.
        """
        interceptor = _FollowedOnly(tracer=self.tracer, always_create_workflow_spans=False)
        interceptor.text_map_propagator = _PROPAGATOR
        return interceptor

    def close(self) -> None:
        """Send what waits, within the exporter's own timeout, and stop."""
        self.provider.shutdown()


@contextmanager
def request_context(trace: RequestTrace) -> Iterator[None]:
    """Make `trace` the current one: log lines carry its ids, and spans made inside become its children."""
    token = otel_context.attach(trace.context())
    mark = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(mark)
        otel_context.detach(token)


def current_request() -> RequestTrace | None:
    """Return the trace of the request being answered, if any."""
    return _current.get()


def kept_context() -> Context | None:
    """Return the context that makes what follows a part of the current request's trace, where that is kept already."""
    trace = _current.get()
    return trace.context() if trace is not None and trace.sampled else None


@contextmanager
def timed(name: str, **attributes: str | int | bool) -> Iterator[None]:
    """Time a step of the current request as a child span; free of charge outside a request."""
    trace = _current.get()
    if trace is None:
        yield
        return
    with trace.span(name, **attributes):
        yield


def current_ids() -> tuple[str, str] | None:
    """Return trace id and span id of whatever is current, in hexadecimal, or None."""
    found = otel.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    return format(found.trace_id, "032x"), format(found.span_id, "016x")


def query_span(tracer: Tracer, query: str) -> AbstractContextManager[object]:
    """Return a `db.query` span for a named statement or transaction; nothing where no span is being recorded."""
    return span_within(tracer, SpanName.DB_QUERY, {"db.system.name": "postgresql", "db.operation.name": query})


def span_within(
    tracer: Tracer, name: str, attributes: Mapping[str, str] | None = None
) -> AbstractContextManager[object]:
    """Return a span of a step inside the current one; nothing where no span is being recorded."""
    if not otel.get_current_span().is_recording():
        return nullcontext()
    return tracer.start_as_current_span(name, attributes=attributes)


def to_kafka_headers(context: Context | None = None) -> list[tuple[str, bytes]]:
    """Return the headers that carry the current (or the given) trace context in a Kafka message."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    return [(name, value.encode("ascii")) for name, value in carrier.items()]


def kept_trace(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Return the `traceparent` of a Kafka message where that trace is kept, else nothing: most messages have none."""
    for name, value in headers:
        if name == "traceparent" and value is not None:
            parent = parse_traceparent(value)
            return value if parent is not None and parent[2] else b""
    return b""


def follow(tracer: Tracer, name: SpanName, traceparents: Iterable[bytes], began_ns: int) -> None:
    """Add a step that began at `began_ns` (Unix) and ends now to each of these traces."""
    for traceparent in traceparents:
        parent = _PROPAGATOR.extract({"traceparent": traceparent.decode("ascii")}, Context())
        tracer.start_span(name, parent, SpanKind.CONSUMER, start_time=began_ns).end()
