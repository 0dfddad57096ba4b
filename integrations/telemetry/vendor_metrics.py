"""Calls to vendors: how long they take, how often there is no answer, and a span of each."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from integrations.telemetry.metrics import LATENCY_BUCKETS_S
from integrations.telemetry.tracing import span_within, timed


class VendorMetrics:
    """One per process; its series are bounded by the vendors of the settings."""

    def __init__(self, registry: CollectorRegistry, tracer: Tracer) -> None:
        self._seconds = Histogram(
            "external_request_seconds",
            "How long a vendor took to answer, or was waited for.",
            ["vendor"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._errors = Counter(
            "external_errors",
            "Calls that a vendor did not answer, or answered with its own fault.",
            ["vendor"],
            registry=registry,
        )
        self._waiting = Gauge(
            "external_requests_waiting", "Calls that wait for a connection to a vendor.", ["vendor"], registry=registry
        )
        self._tracer = tracer

    def of(self, vendor: str) -> "VendorCalls":
        """Return what watches the calls of a vendor, by a name of the code or the settings."""
        return VendorCalls(
            vendor,
            self._seconds.labels(vendor),
            self._errors.labels(vendor),
            self._waiting.labels(vendor),
            self._tracer,
        )


class VendorCalls:
    """The calls of one vendor."""

    def __init__(self, vendor: str, seconds: Histogram, errors: Counter, waiting: Gauge, tracer: Tracer) -> None:
        self._span = f"external.{vendor}"
        self._seconds = seconds
        self._errors = errors
        self._waiting = waiting
        self._tracer = tracer

    def watch(self, waiting: Callable[[], float]) -> None:
        """Read how many calls wait for a connection, whenever metrics are read."""
        self._waiting.set_function(waiting)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Watch one call; whatever it raises is no answer, and so is its end because nobody waits any more."""
        began = time.perf_counter()
        try:
            with timed(self._span), span_within(self._tracer, self._span):
                yield
        except BaseException:
            self.failed()
            raise
        finally:
            self._seconds.observe(time.perf_counter() - began)

    def failed(self) -> None:
        """Count an answer that is the vendor's own fault."""
        self._errors.inc()
