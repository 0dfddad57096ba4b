"""Serves a service until it is told to stop, then lets it finish."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import structlog
from uvicorn import Config, Server

from api.composition import Service
from api.http.client_addresses import ClientAddresses
from api.http.deadlines import sweep
from api.http.lean import LeanRoutes
from api.http.protocol import LeanProtocol
from api.http.shared import ServingLimits, Shared
from integrations.telemetry.telemetry import Telemetry

log = structlog.get_logger(__name__)


class _Server(Server):
    """Uvicorn's server without its hands on the process: signals are its owner's."""

    def __init__(self, config: Config, on_started: Callable[[str, int], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then tell where."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._on_started(host, port)


async def serve(
    service: Service,
    telemetry: Telemetry,
    stop: asyncio.Event,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: ServingLimits | None = None,
    trusted_proxies: Sequence[str] = (),
    on_started: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until `stop` is set, then stop: not ready, no new connections, open requests finish, streams end.

    `on_started` gets the host and port that are listened on.

    Raises:
        SystemExit: the address cannot be listened on.
    """
    limits = limits or ServingLimits()
    metrics = service.app.state.http_metrics
    shared = Shared(LeanRoutes(service.lean_routes), limits, metrics, ClientAddresses(trusted_proxies))
    config = Config(
        service.app,
        host=host,
        port=port,
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

    server = _Server(config, started)
    connections = cast("set[LeanProtocol]", server.server_state.connections)
    metrics.connections.set_function(lambda: len(connections) + len(shared.detached))
    tasks = [
        asyncio.create_task(sweep(connections, shared)),
        asyncio.create_task(_stop(stop, service, telemetry, shared, server)),
    ]
    try:
        await server.serve()
        await _end_detached(shared)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(connections):
            connection.transport.abort()


async def _stop(stop: asyncio.Event, service: Service, telemetry: Telemetry, shared: Shared, server: Server) -> None:
    await stop.wait()
    log.info("stopping", connections=len(server.server_state.connections), streams=len(shared.detached))
    shared.stopping = True
    telemetry.readiness.stop()
    shared.forget_closed()
    for tell in (*service.on_stop, *shared.detached.values()):
        try:
            tell()
        except Exception:  # one stream that cannot end must not keep the process from stopping
            log.exception("stop_failed")
    server.should_exit = True


async def _end_detached(shared: Shared) -> None:
    """Wait for streams that were told to end, then cut off the rest."""
    deadline = time.monotonic() + shared.limits.linger_s
    while shared.detached and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        shared.forget_closed()
    for transport in shared.detached:
        transport.abort()
