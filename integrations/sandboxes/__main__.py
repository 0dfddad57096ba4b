"""`python -m integrations.sandboxes`: every sandbox on one port, from the environment's settings, until SIGTERM."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from typing import Final

import structlog
import uvloop

from integrations.sandboxes.mounting import SandboxesRefusedError, mount, open_sandboxes
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Settings
from integrations.telemetry.logs import configure_logs

PORT: Final = 8120

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Open every sandbox, serve them, and undo it in reverse order."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = settings.listen_port if "listen_port" in settings.model_fields_set else PORT
    async with AsyncExitStack() as lifetime:
        sandboxes = await open_sandboxes(settings, lifetime)
        address = await lifetime.enter_async_context(
            serve_sandboxes(mount(sandboxes), host=settings.listen_host, port=port)
        )
        # Whoever started us reads the address from this line
        sys.stdout.write(f"listening on {address}\n")
        sys.stdout.flush()
        log.info("sandboxes_opened", names=sorted(sandboxes))
        await stop.wait()
    log.info("stopped")


def main() -> None:
    """Run the sandboxes, or say why not."""
    settings = Settings()
    configure_logs(service="sandboxes", environment=settings.environment, region=settings.region)
    try:
        uvloop.run(run(settings))
    except (SandboxesRefusedError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
