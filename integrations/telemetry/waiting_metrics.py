"""What waits inside of a process for a turn or for other servers, and what was dropped."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge


class SendMetrics:
    """Messages of one client of Kafka."""

    __slots__ = ("_failed", "_sending")

    def __init__(self, sending: Gauge, failed: Counter) -> None:
        self._sending = sending
        self._failed = failed

    def sending(self) -> AbstractContextManager[object]:
        """Count a send as under way for the length of the block."""
        return self._sending.track_inprogress()

    def failed(self) -> None:
        """Count a send that the broker did not acknowledge in time."""
        self._failed.inc()


class WaitingMetrics:
    """One per process. `client` names what a connection is for, and its cell: the number of series is bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._commands = Gauge(
            "redis_commands_in_flight", "Commands that wait for Redis.", ["client"], registry=registry
        )
        self._calls = Gauge(
            "temporal_calls_waiting", "Calls that wait until Temporal is back.", ["namespace"], registry=registry
        )
        self._sending = Gauge("kafka_sends_in_flight", "Sends that wait for Kafka.", ["client"], registry=registry)
        self._not_sent = Counter("kafka_sends_failed", "Sends that Kafka did not take.", ["client"], registry=registry)
        self._webhooks = Gauge("webhooks_waiting", "Webhooks that wait to be kept.", ["cell"], registry=registry)
        self._passwords = Gauge("passwords_waiting", "Passwords that wait to be hashed.", registry=registry)
        self._spans = Gauge("spans_waiting", "Spans that wait to be exported.", registry=registry)
        self.spans_dropped = Counter(
            "spans_dropped", "Spans dropped because too many waited to be exported.", registry=registry
        )

    def watch_redis(self, client: str) -> Callable[[Callable[[], float]], None]:
        """Return what a client tells how its commands in flight are read, whenever metrics are read."""
        return self._commands.labels(client).set_function

    def watch_temporal(self, namespace: str, waiting: Callable[[], float]) -> None:
        """Read how many calls wait for the return of a namespace, whenever metrics are read."""
        self._calls.labels(namespace).set_function(waiting)

    def sends(self, client: str) -> SendMetrics:
        """Return the counts of one client of Kafka."""
        return SendMetrics(self._sending.labels(client), self._not_sent.labels(client))

    def watch_webhooks(self, cell: str, waiting: Callable[[], float]) -> None:
        """Read how many webhooks of a cell wait, whenever metrics are read."""
        self._webhooks.labels(cell).set_function(waiting)

    def watch_passwords(self, waiting: Callable[[], float]) -> None:
        """Read how many passwords wait for their turn, whenever metrics are read."""
        self._passwords.set_function(waiting)

    def watch_spans(self, waiting: Callable[[], float]) -> None:
        """Read how many spans wait, whenever metrics are read."""
        self._spans.set_function(waiting)
