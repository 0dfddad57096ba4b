import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integrations.telemetry.request_trace import parse_traceparent
from integrations.telemetry.span_names import SpanName
from integrations.telemetry.tracing import (
    Tracing,
    current_ids,
    current_request,
    follow,
    kept_trace,
    query_span,
    request_context,
    timed,
    to_kafka_headers,
)

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + b"0"


def make(ratio: float, slow_s: float = 10.0) -> tuple[Tracing, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(
        service="votes",
        environment="test",
        region="local",
        build="abc",
        ratio=ratio,
        processors=[SimpleSpanProcessor(exporter)],
        slow_s=slow_s,
    )
    return tracing, exporter


@pytest.fixture
def never() -> Iterator[tuple[Tracing, InMemorySpanExporter]]:
    tracing, exporter = make(0.0)
    yield tracing, exporter
    tracing.close()


def named(spans: tuple[ReadableSpan, ...], name: str) -> ReadableSpan:
    return next(span for span in spans if span.name == name)


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def times_of(span: ReadableSpan) -> tuple[int, int]:
    """Return when it began and ended, in nanoseconds."""
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def duration_of(span: ReadableSpan) -> int:
    began, ended = times_of(span)
    return ended - began


def test_unsampled_success_leaves_nothing(never: tuple[Tracing, InMemorySpanExporter]) -> None:
    tracing, exporter = never
    trace = tracing.begin_request(None, time.perf_counter())
    trace.step(SpanName.PERSIST_VOTE, 1.0, 2.0)
    assert trace.finish(201) is False
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("why", ["error", "slow", "flagged", "parent"])
def test_kept_whole_though_unsampled(never: tuple[Tracing, InMemorySpanExporter], why: str) -> None:
    tracing, exporter = never
    started = time.perf_counter() - (11.0 if why == "slow" else 0.02)
    trace = tracing.begin_request(PARENT if why == "parent" else None, started)
    trace.step(SpanName.VALIDATE_TOKEN, started + 0.001, started + 0.002, {"kind": "voting"})
    with trace.span(SpanName.PERSIST_VOTE):
        pass
    if why == "flagged":
        trace.flag()
    assert trace.finish(503 if why == "error" else 201) is True
    assert trace.finish(201) is False
    spans = exporter.get_finished_spans()
    assert sorted(span.name for span in spans) == ["auth.validate_token", "http.request", "vote.persist"]
    request = named(spans, "http.request")
    came, answered = times_of(request)
    for span in spans:
        assert span.context.trace_id == request.context.trace_id
        assert span.context.trace_flags.sampled
        if span is not request:
            assert parent_of(span) == request.context.span_id
            began, ended = times_of(span)
            assert came <= began <= ended <= answered
    assert format(request.context.span_id, "016x") == trace.span_id
    assert request.status.is_ok is (why != "error")
    assert request.resource.attributes["service.name"] == "votes"
    assert duration_of(named(spans, "auth.validate_token")) == pytest.approx(1e6, abs=1000)
    assert abs(answered - time.time_ns()) < 5e9
    if why == "parent":
        assert format(request.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
        assert format(parent_of(request), "016x") == "b7ad6b7169203331"


@pytest.mark.parametrize(("ratio", "parent", "kept"), [(0.0, PARENT, 1), (0.0, UNSAMPLED, 0), (1.0, UNSAMPLED, 1)])
def test_a_caller_can_ask_for_a_trace_and_not_against_one(ratio: float, parent: bytes, kept: int) -> None:
    tracing, exporter = make(ratio)
    trace = tracing.begin_request(parent, time.perf_counter())
    assert trace.finish(200) is bool(kept)
    assert len(exporter.get_finished_spans()) == kept
    assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"


def test_a_step_that_raises_is_marked(never: tuple[Tracing, InMemorySpanExporter]) -> None:
    tracing, exporter = never
    trace = tracing.begin_request(PARENT, time.perf_counter())
    with pytest.raises(KeyError), trace.span("vote.persist"):
        raise KeyError("choice-7")
    trace.finish(200)
    step = named(exporter.get_finished_spans(), "vote.persist")
    assert not step.status.is_ok
    assert "choice-7" not in step.to_json()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"garbage",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        PARENT + b"-more",
        PARENT.upper(),
        b"\xff" * 55,
    ],
)
def test_malformed_traceparent_is_ignored(never: tuple[Tracing, InMemorySpanExporter], value: bytes) -> None:
    assert parse_traceparent(value) is None
    trace = never[0].begin_request(value, time.perf_counter())
    assert trace.trace_id != "0af7651916cd43dd8448eb211c80319c"


def test_future_version_is_read() -> None:
    assert parse_traceparent(b"01" + PARENT[2:] + b"-more") == parse_traceparent(PARENT)


def test_spans_made_inside_are_children(never: tuple[Tracing, InMemorySpanExporter]) -> None:
    tracing, exporter = never
    trace = tracing.begin_request(PARENT, time.perf_counter())
    with request_context(trace):
        assert current_request() is trace
        assert current_ids() == (trace.trace_id, trace.span_id)
        with tracing.tracer.start_as_current_span("external.sumsub"), timed(SpanName.DB_QUERY, query="voter"):
            pass
    assert current_request() is None
    assert current_ids() is None
    trace.finish(200)
    spans = exporter.get_finished_spans()
    assert {parent_of(span) for span in spans if span.name != "http.request"} == {int(trace.span_id, 16)}
    assert named(spans, "db.query").attributes == {"query": "voter"}


def test_timed_outside_a_request_is_free() -> None:
    with timed(SpanName.DB_QUERY):
        assert current_request() is None


@pytest.mark.parametrize(("ratio", "kept"), [(1.0, 1), (0.0, 0)])
def test_a_kept_trace_goes_on_behind_kafka(ratio: float, kept: int) -> None:
    tracing, exporter = make(ratio)
    trace = tracing.begin_request(None, time.perf_counter())
    with request_context(trace):
        headers = to_kafka_headers()
    assert dict(headers)["traceparent"] == trace.traceparent.encode()
    found = kept_trace(headers)
    assert bool(found) is bool(kept)
    follow(tracing.tracer, SpanName.FOLD_TALLY, filter(None, [found]), time.time_ns() - 5_000_000)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["tally.fold"] * kept
    for span in spans:
        assert (format(span.context.trace_id, "032x"), format(parent_of(span), "016x")) == (
            trace.trace_id,
            trace.span_id,
        )
        assert 5_000_000 <= duration_of(span) < 5_000_000_000


@pytest.mark.parametrize(
    "headers",
    [[], [("traceparent", b"\xff\x00")], [("traceparent", None)], [("other", PARENT)], [("traceparent", UNSAMPLED)]],
)
def test_messages_whose_trace_nobody_keeps(headers: list[tuple[str, bytes | None]]) -> None:
    assert kept_trace(headers) == b""


def test_texts_of_exceptions_never_leave() -> None:
    tracing, exporter = make(1.0)

    def query() -> None:
        with tracing.tracer.start_as_current_span("db.query") as span:
            span.set_attribute("access_token", "abc")
            span.set_attribute("query", "Bearer abc")
            raise ValueError("Key (nullifier)=(secret-bytes) exists")

    with pytest.raises(ValueError, match="nullifier"):
        query()
    (found,) = exporter.get_finished_spans()
    text = found.to_json()
    assert not found.status.is_ok
    assert (found.events[0].attributes or {})["exception.type"] == "ValueError"
    assert "secret-bytes" not in text
    assert "abc" not in text.replace('"service.version": "abc"', "")


def test_a_statement_is_a_span_only_where_a_trace_is_recorded() -> None:
    tracing, exporter = make(1.0)
    with query_span(tracing.tracer, "record_votes"):
        pass
    assert not exporter.get_finished_spans()
    with tracing.tracer.start_as_current_span("RunActivity:record_votes"), query_span(tracing.tracer, "record_votes"):
        pass
    query, activity = exporter.get_finished_spans()
    assert query.name == "db.query"
    assert (query.attributes or {})["db.operation.name"] == "record_votes"
    assert parent_of(query) == activity.context.span_id
