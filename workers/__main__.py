"""`python -m workers NAME`: one worker, from the settings in the environment, until SIGTERM or SIGINT."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

import structlog
import uvloop

from integrations.settings import Settings
from integrations.telemetry.health import health_server
from integrations.telemetry.telemetry import open_telemetry
from workers.composition import Run, find_run

log = structlog.get_logger(__name__)


async def run_worker(name: str, run: Run, settings: Settings) -> None:
    """Run a worker beside its health server, and undo its wiring in reverse order."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    telemetry = open_telemetry(settings, name)

    def stop() -> None:
        telemetry.readiness.stop()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with AsyncExitStack() as lifetime:
        lifetime.callback(telemetry.close)
        host, port = await lifetime.enter_async_context(
            health_server(settings.listen_host, settings.listen_port, telemetry, mode=settings.listen_mode)
        )
        if settings.health_port is not None:
            await lifetime.enter_async_context(health_server(settings.listen_host, settings.health_port, telemetry))
        sys.stdout.write(f"listening on http://{host}:{port}\n")  # whoever started us on port 0 reads it here
        sys.stdout.flush()
        await run(settings, lifetime, telemetry, stopping)
    log.info("stopped")


def main() -> None:
    """Run the worker named on the command line."""
    if len(sys.argv) != 2:  # noqa: PLR2004
        sys.exit("usage: python -m workers NAME")
    try:
        run = find_run(sys.argv[1])
    except LookupError as error:
        sys.exit(str(error))
    uvloop.run(run_worker(sys.argv[1], run, Settings()))


if __name__ == "__main__":
    main()
