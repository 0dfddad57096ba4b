"""Serves a service until it is told to stop, then lets it finish."""

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, cast

import structlog
from uvicorn import Config, Server

from api.composition import Service
from api.http.backlog import waiting_to_be_accepted
from api.http.client_addresses import ClientAddresses
from api.http.deadlines import sweep
from api.http.descriptors import connections_within
from api.http.lean import LeanRoutes
from api.http.listening import close_listener
from api.http.protocol import LeanProtocol
from api.http.shared import ServingLimits, Shared
from api.http.shedding import LoadShedder
from api.http.stopping import close_idle, hand_over, say_close
from integrations.listening import Listen, open_listener
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.work_metrics import WorkMetrics

log = structlog.get_logger(__name__)


class _Server(Server):
    """Uvicorn's server without its hands on the process: signals are its owner's."""

    def __init__(self, config: Config, listener: socket.socket, on_started: Callable[[str, int], None]) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._listener = listener.dup()
        self._listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then tell where."""
        await super().startup(sockets)
        self._listening.set()
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._on_started(host, port)

    async def stop_listening(self) -> None:
        """Take no new connections, once all that came are taken."""
        await self._listening.wait()
        taken = await close_listener(self._listener, self.servers[0], self._connection)
        log.info("not_listening", taken=taken)

    def _connection(self) -> asyncio.Protocol:
        """Return what serves a connection, as uvicorn makes it."""
        return self.config.http_protocol_class(config=self.config, server_state=self.server_state, app_state={})  # type: ignore[call-arg]


async def serve(
    service: Service,
    telemetry: Telemetry,
    stop: asyncio.Event,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listen: Listen = Listen.ALONE,
    limits: ServingLimits | None = None,
    trusted_proxies: Sequence[str] = (),
    on_started: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until `stop` is set, then stop: not ready, no new connections, open requests finish, streams end.

    `on_started` gets the host and port that are listened on. Whatever was read is answered, within the
    times of `limits`.

    Raises:
        SystemExit: the address cannot be listened on.
    """
    limits = limits or ServingLimits()
    limits = replace(limits, connections=connections_within(limits.connections))
    metrics = service.app.state.http_metrics
    gates = {id(route.gate): route.gate for route in service.lean_routes if route.gate is not None}
    shedder = LoadShedder(WorkMetrics(telemetry.registry), gates=list(gates.values()), on_refused=service.on_refused)
    shared = Shared(LeanRoutes(service.lean_routes), limits, metrics, ClientAddresses(trusted_proxies), shedder)
    try:
        listener = open_listener(host, port, listen)
    except OSError as error:
        raise SystemExit(f"cannot listen on {host}:{port}: {error}") from error
    config = Config(
        service.app,
        http=cast("type[asyncio.Protocol]", functools.partial(LeanProtocol, shared=shared)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=limits.backlog,
        timeout_graceful_shutdown=max(1, round(limits.stop_s)),
    )

    def started(at_host: str, at_port: int) -> None:
        telemetry.readiness.start()
        log.info("listening", host=at_host, port=at_port)
        if on_started is not None:
            on_started(at_host, at_port)

    server = _Server(config, listener, started)
    connections = cast("set[LeanProtocol]", server.server_state.connections)
    metrics.connections.set_function(lambda: len(connections) + len(shared.detached))
    metrics.unaccepted.set_function(lambda: waiting_to_be_accepted(listener))
    metrics.pipelined.set_function(lambda: sum(len(each.pipeline) for each in connections))
    metrics.unread.set_function(lambda: sum(each.flow.write_paused for each in connections))
    telemetry.waiting.watch_held(lambda: len(shared.held))
    tasks = [
        asyncio.create_task(sweep(connections, shared)),
        asyncio.create_task(shedder.run()),
        stopping := asyncio.create_task(_stop(stop, service, telemetry, shared, server)),
    ]
    try:
        await server.serve([listener])
        await stopping
        await _end_detached(shared)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(connections):
            connection.transport.abort()


async def _stop(stop: asyncio.Event, service: Service, telemetry: Telemetry, shared: Shared, server: _Server) -> None:
    """Leave in order; return when every stream was told to end."""
    await stop.wait()
    connections = cast("set[LeanProtocol]", server.server_state.connections)
    log.info("stopping", connections=len(connections), streams=len(shared.detached))
    shared.stopping = True
    telemetry.readiness.stop()
    say_close(connections)
    await asyncio.sleep(shared.limits.lame_duck_s)
    await server.stop_listening()
    for tell in service.on_stop:
        tell()
    ending = asyncio.create_task(hand_over(shared))
    await close_idle(connections, shared.limits)
    server.should_exit = True
    await ending


async def _end_detached(shared: Shared) -> None:
    """Wait for streams that were told to end, then cut off the rest."""
    deadline = time.monotonic() + shared.limits.linger_s
    while shared.detached and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        shared.forget_closed()
    for transport in shared.detached:
        transport.abort()
