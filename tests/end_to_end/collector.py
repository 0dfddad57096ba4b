"""A collector of spans as every process sends them: OTLP over HTTP, kept as it came."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from comitia.stack.ports import HOST


class SpanCollector(ThreadingHTTPServer):
    """Listens on a free port; `received` are the bodies, in no order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.received: list[bytes] = []

    @property
    def url(self) -> str:
        """The address to send to."""
        return f"http://{HOST}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: SpanCollector

    def do_POST(self) -> None:
        self.server.received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def span_collector() -> Iterator[SpanCollector]:
    """Collect until the end of the block."""
    with SpanCollector() as collector:
        serving = Thread(target=collector.serve_forever, daemon=True)
        serving.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            serving.join()
