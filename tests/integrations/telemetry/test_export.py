import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.telemetry.tracing import request_context


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The address of a collector that speaks OTLP over HTTP, and what was sent to it."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_spans_reach_the_collector_before_the_process_ends(collector: tuple[str, list[tuple[str, bytes]]]) -> None:
    address, received = collector
    settings = Settings(environment=Environment.TEST, otlp_endpoint=address + "/", trace_sample_ratio=1.0, build="abc")
    telemetry = make_telemetry(settings, "votes")
    trace = telemetry.tracing.begin_request(None, time.perf_counter())
    with request_context(trace), telemetry.tracing.tracer.start_as_current_span("external.sumsub"):
        pass
    trace.finish(201)
    telemetry.close()
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    for text in (b"http.request", b"external.sumsub", b"votes", b"abc", bytes.fromhex(trace.trace_id)):
        assert text in sent


def test_a_missing_collector_does_not_hold_the_process() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        telemetry = make_telemetry(
            Settings(environment=Environment.TEST, otlp_endpoint=address, trace_sample_ratio=1.0), "votes"
        )
        telemetry.tracing.begin_request(None, time.perf_counter()).finish(201)
        began = time.monotonic()
        telemetry.close()
        assert time.monotonic() - began < 20
