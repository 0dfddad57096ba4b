"""What waits and what is dropped is counted, and docs/load.md says of every queue by which metric it is seen."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from domain.errors import DomainError
from domain.retry_budget import RetryBudget
from integrations.addresses import KafkaAddress
from integrations.kafka.producer import DurableProducer, Message
from integrations.redis.retries import BudgetedRetry
from integrations.telemetry.span_export import BoundedExport
from integrations.telemetry.waiting_metrics import WaitingMetrics
from tests.load_page import queues

ROOT = Path(__file__).parents[3]
QUEUES = 30  # fewer rows were read wrongly


class Blocked(SpanExporter):
    """A collector that hangs until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.released = threading.Event(), threading.Event()

    def export(self, spans: object) -> SpanExportResult:
        self.asked.set()
        self.released.wait(10)
        return SpanExportResult.SUCCESS


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    exporter = Blocked()
    yield exporter
    exporter.released.set()


def test_spans_that_are_dropped_are_counted(
    registry: CollectorRegistry, blocked: Blocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BoundedExport(blocked, WaitingMetrics(registry), spans_max=4))
    tracer = provider.get_tracer("test")
    tracer.start_span("taken").end()
    assert blocked.asked.wait(10)
    for _ in range(7):
        tracer.start_span("waits").end()
    assert registry.get_sample_value("spans_waiting") == 4
    assert registry.get_sample_value("spans_dropped_total") == 3
    blocked.released.set()
    provider.shutdown()


async def test_commands_in_flight_are_seen_until_they_end(registry: CollectorRegistry) -> None:
    retry, answered = BudgetedRetry(RetryBudget()), asyncio.Event()
    WaitingMetrics(registry).watch_redis("tally-eu")(lambda: retry.in_flight)

    async def waiting() -> float | None:
        return registry.get_sample_value("redis_commands_in_flight", {"client": "tally-eu"})

    async def closed(_: Exception) -> None: ...

    commands = [asyncio.create_task(retry.call_with_retry(answered.wait, closed)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await waiting() == 3
    commands.pop().cancel()
    answered.set()
    await asyncio.gather(*commands)
    await asyncio.sleep(0)
    assert await waiting() == 0


async def test_what_kafka_does_not_take_is_counted(registry: CollectorRegistry, unused_tcp_port: int) -> None:
    nobody = KafkaAddress(port=unused_tcp_port)
    producer = DurableProducer(nobody, "comitia-test", timeout_s=0.3, metrics=WaitingMetrics(registry))
    labels = {"client": "comitia-test"}
    sending = asyncio.create_task(producer.send([Message("topic", "key", b"value")]))
    await asyncio.sleep(0)
    assert registry.get_sample_value("kafka_sends_in_flight", labels) == 1
    with pytest.raises(DomainError):
        await sending
    assert registry.get_sample_value("kafka_sends_in_flight", labels) == 0
    assert registry.get_sample_value("kafka_sends_failed_total", labels) == 1
    await producer.close()


def test_every_queue_has_a_bound_and_a_metric_that_exists() -> None:
    assert len(queues()) >= QUEUES
    source = "\n".join(path.read_text() for path in (ROOT / "integrations" / "telemetry").glob("*.py"))
    for queue in queues():
        assert all((queue.name, queue.bound, queue.where, queue.seen)), queue
        assert queue.full or queue.name.startswith("executions"), queue
        unknown = [name for name in queue.metrics if f'"{name.removesuffix("_total")}"' not in source]
        assert not unknown, (queue, unknown)
