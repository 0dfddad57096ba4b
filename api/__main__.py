"""`python -m api SERVICE`: one service, from the settings in the environment, until SIGTERM or SIGINT."""

import asyncio
import gc
import signal
import sys
from contextlib import AsyncExitStack

import structlog
import uvloop

from api.composition import Compose, find_compose
from api.http.descriptors import raise_limit
from api.http.forced_states import mount_forced_states
from api.http.serving import serve
from api.http.shared import ServingLimits
from integrations.settings import Environment, Settings
from integrations.telemetry.health import health_server
from integrations.telemetry.telemetry import open_telemetry

log = structlog.get_logger(__name__)


async def run(service_name: str, compose: Compose, settings: Settings) -> None:
    """Wire the service, serve it, and undo the wiring in reverse order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    telemetry = open_telemetry(settings, service_name)
    async with AsyncExitStack() as lifetime:
        lifetime.callback(telemetry.close)
        service = await compose(settings, lifetime, telemetry)
        if settings.forced_states:
            service = mount_forced_states(service, settings, telemetry)
        if settings.health_port is not None:
            await lifetime.enter_async_context(health_server(settings.listen_host, settings.health_port, telemetry))
        _spare_the_collector()
        await serve(
            service,
            telemetry,
            stop,
            host=settings.listen_host,
            port=settings.listen_port,
            listen=settings.listen_mode,
            limits=ServingLimits(lame_duck_s=settings.stop_lame_duck_s),
            trusted_proxies=settings.trusted_proxies,
            on_started=_announce,
        )
    log.info("stopped")


def _spare_the_collector() -> None:
    """Leave what was wired out of garbage collection, and collect less often: requests leave few cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _announce(host: str, port: int) -> None:
    # Whoever started us on port 0 reads the address from this line
    sys.stdout.write(f"listening on http://{host}:{port}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the service named on the command line."""
    if len(sys.argv) != 2:  # noqa: PLR2004
        sys.exit("usage: python -m api SERVICE")
    try:
        compose = find_compose(sys.argv[1])
    except LookupError as error:
        sys.exit(str(error))
    settings = Settings()
    if settings.environment is Environment.PRODUCTION and settings.health_port is None:
        # They count the votes of surveys whose results nobody may see yet
        sys.exit("COMITIA_HEALTH_PORT is not set: in production metrics are shown on a port of their own")
    raise_limit()
    uvloop.run(run(sys.argv[1], compose, settings))


if __name__ == "__main__":
    main()
