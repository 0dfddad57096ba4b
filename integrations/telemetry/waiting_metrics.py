"""What waits inside of a process for a turn or for other servers, and what was dropped."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge


class CountedPool(Protocol):
    """Connections to a database."""

    waiting: int  # for one of them

    def get_size(self) -> int:
        """Return how many are open."""
        ...

    def get_idle_size(self) -> int:
        """Return how many of these nobody uses."""
        ...


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
        self._pools: dict[str, WeakSet[CountedPool]] = {}
        self._open = Gauge("db_pool_connections", "Open connections.", ["database"], registry=registry)
        self._used = Gauge("db_pool_connections_in_use", "Connections in use.", ["database"], registry=registry)
        self._wanted = Gauge("db_pool_waiting", "Statements without a connection.", ["database"], registry=registry)
        self._held = Gauge("http_requests_held", "Requests that nobody has looked at yet.", registry=registry)
        self._proofs = Gauge(
            "proofs_waiting", "Proofs that wait for the next question to Redis.", ["cell"], registry=registry
        )
        self._streams = Gauge("streams_waiting", "Streams that wait for their survey.", registry=registry)
        self._turns = Gauge(
            "turns_waiting", "Calls that wait for a place among those that run.", ["kind"], registry=registry
        )
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

    def watch_pool(self, place: str, role: str) -> Callable[[CountedPool], None]:
        """Return what is told of a pool of connections, which are then counted whenever metrics are read.

        Those of one place (a cell, or the catalogue) and role are counted together, as long as somebody has them.
        """
        name = f"{place}/{role}"
        pools = self._pools.get(name)
        if pools is None:
            pools = self._pools[name] = WeakSet()
            for gauge, count in ((self._open, _size), (self._used, _in_use), (self._wanted, _waiting)):
                gauge.labels(name).set_function(partial(_sum, pools, count))
        return pools.add

    def watch_held(self, waiting: Callable[[], float]) -> None:
        """Read how many requests are held, whenever metrics are read."""
        self._held.set_function(waiting)

    def watch_proofs(self, cell: str, waiting: Callable[[], float]) -> None:
        """Read how many proofs of a cell wait, whenever metrics are read."""
        self._proofs.labels(cell).set_function(waiting)

    def watch_streams(self, waiting: Callable[[], float]) -> None:
        """Read how many streams wait, whenever metrics are read."""
        self._streams.set_function(waiting)

    def watch_turns(self, kind: str, waiting: Callable[[], float]) -> None:
        """Read how many calls of a kind wait for their turn, whenever metrics are read."""
        self._turns.labels(kind).set_function(waiting)

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


def _sum(pools: Collection[CountedPool], count: Callable[[CountedPool], int]) -> int:
    return sum(map(count, tuple(pools)))


def _size(pool: CountedPool) -> int:
    return pool.get_size()


def _in_use(pool: CountedPool) -> int:
    return pool.get_size() - pool.get_idle_size()


def _waiting(pool: CountedPool) -> int:
    return pool.waiting
