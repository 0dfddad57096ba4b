"""What one process shows of itself: metrics, traces, logs, and whether it is able to work."""

from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from integrations.settings import Environment, Settings
from integrations.telemetry.logs import configure_logs
from integrations.telemetry.readiness import Readiness
from integrations.telemetry.tracing import Tracing
from integrations.telemetry.waiting_metrics import WaitingMetrics

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Made once per process by the composition root and handed to whatever measures something."""

    service: str
    region: str
    registry: CollectorRegistry
    tracing: Tracing
    readiness: Readiness
    waiting: WaitingMetrics
    # What production keeps from whoever reaches a service: metrics, which count votes of surveys whose results nobody
    # may see yet, and pages of documentation, which run scripts from elsewhere where staff have their sessions
    is_production: bool = False

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and text of every metric; OpenMetrics, with exemplars, where the reader asks for it."""
        if "application/openmetrics-text" in accept:
            return OPENMETRICS_TYPE, bytes(generate_openmetrics(self.registry))  # type: ignore[no-untyped-call]
        return TEXT_TYPE, generate_latest(self.registry)

    def close(self) -> None:
        """Send the spans that wait."""
        self.tracing.close()


def make_telemetry(settings: Settings, service: str) -> Telemetry:
    """Return metrics and tracing of a process; changes nothing outside the object."""
    registry = CollectorRegistry(auto_describe=True)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    Gauge("comitia_build_info", "The running build, always 1.", ["service", "build"], registry=registry).labels(
        service, settings.build
    ).set(1)
    waiting = WaitingMetrics(registry)
    tracing = Tracing(
        service=service,
        environment=str(settings.environment),
        region=settings.region,
        build=settings.build,
        ratio=settings.trace_sample_ratio,
        otlp_endpoint=settings.otlp_endpoint,
        waiting=waiting,
    )
    return Telemetry(
        service=service,
        region=settings.region,
        registry=registry,
        tracing=tracing,
        readiness=Readiness(),
        waiting=waiting,
        is_production=settings.environment is Environment.PRODUCTION,
    )


def open_telemetry(settings: Settings, service: str) -> Telemetry:
    """Set up logging of the whole process and return its telemetry; called by `__main__` modules only."""
    configure_logs(service=service, environment=str(settings.environment), region=settings.region)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return make_telemetry(settings, service)
