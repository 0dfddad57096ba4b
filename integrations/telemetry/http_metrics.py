"""Rate, errors and duration of HTTP requests by route template."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from integrations.telemetry.metrics import LATENCY_BUCKETS_S

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED: Final = "unmatched"


class RouteMetrics:
    """The series of one method and route template, bound once per status."""

    __slots__ = ("_children", "_method", "_requests", "_route", "_seconds")

    def __init__(self, requests: Counter, seconds: Histogram, method: str, route: str) -> None:
        self._requests = requests
        self._seconds = seconds.labels(method, route)
        self._method = method
        self._route = route
        self._children: dict[int, Counter] = {}

    def answered(self, status: int, seconds: float, trace_id: str = "") -> None:
        """Count an answer; a kept trace's id becomes the exemplar that leads from the metric to the trace."""
        self.count(status)
        if trace_id:
            self._seconds.observe(seconds, exemplar={"trace_id": trace_id})
        else:
            self._seconds.observe(seconds)

    def count(self, status: int) -> None:
        """Count an answer and not its time."""
        counter = self._children.get(status)
        if counter is None:
            counter = self._children[status] = self._requests.labels(self._method, self._route, str(status))
        counter.inc()


class HttpMetrics:
    """Requests of one process; `route` is a template, never an address."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_seconds",
            "From the first byte of a request to its answer.",
            ["method", "route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.connections = Gauge("http_connections", "Open connections.", registry=registry)
        self.evictions = Counter(
            "http_connections_evicted", "Idle connections closed to make room for new ones.", registry=registry
        )
        self.unaccepted = Gauge(
            "http_connections_unaccepted", "Connections that wait in the kernel to be accepted.", registry=registry
        )
        self.pipelined = Gauge(
            "http_requests_pipelined", "Requests that wait for an earlier one of their connection.", registry=registry
        )
        self.unread = Gauge(
            "http_connections_unread", "Connections whose client does not read its answers.", registry=registry
        )
        self.cut_off = Counter(
            "http_connections_cut_off", "Connections closed because nobody read the answers.", registry=registry
        )
        self._routes: dict[tuple[str, str], RouteMetrics] = {}

    def route(self, method: str, template: str) -> RouteMetrics:
        """Return the series of a route; methods nobody uses share one label."""
        method = method if method in METHODS else "OTHER"
        found = self._routes.get((method, template))
        if found is None:
            found = self._routes[method, template] = RouteMetrics(self._requests, self._seconds, method, template)
        return found
