"""Wires the streams service."""

from contextlib import AsyncExitStack

from api.background import run_beside
from api.composition import Service
from api.http.held_places import HeldPlaces
from api.http.limits_opening import open_limits
from api.streams.app import create_app, lean_routes
from api.streams.heartbeat import HeartbeatWheel
from api.streams.hub import StreamHub
from domain.limits import held_streams
from integrations.keys.opening import open_keys
from integrations.keys.purposes import LIMITS
from integrations.postgres.roles import TALLY
from integrations.redis.changes import TallyChanges
from integrations.redis.connection import open_redis
from integrations.results.opening import open_results
from integrations.settings import Settings
from integrations.telemetry.metrics import StreamMetrics
from integrations.telemetry.telemetry import Telemetry


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    opened = await open_results(settings, lifetime, TALLY, telemetry.waiting)
    changes = []
    for cell, addresses in settings.cells.items():
        redis = open_redis(addresses.redis, connections=2, watch=telemetry.waiting.watch_redis(f"changes-{cell}"))
        lifetime.push_async_callback(redis.aclose)
        listener = TallyChanges(redis, cell)
        run_beside(lifetime, listener.run())
        changes.append(listener)
    wheel = HeartbeatWheel()
    run_beside(lifetime, wheel.run())
    limits = await open_limits(settings, open_keys(settings, LIMITS, waiting=telemetry.waiting), lifetime, telemetry)
    hub = StreamHub(
        opened.results,
        changes,
        StreamMetrics(telemetry.registry, telemetry.region),
        wheel,
        limits=limits,
        held=HeldPlaces(held_streams(settings.streams_per_address_max), limits.strangers.metrics),
    )
    lifetime.callback(hub.close)
    telemetry.waiting.watch_streams(hub.waiting)
    telemetry.readiness.add("tally", opened.any_cell_answers)
    return Service(app=create_app(telemetry, public_url=settings.public_url), lean_routes=lean_routes(hub))
