"""How every client reaches Kafka, and lets go of it."""

import asyncio
from typing import Any, Protocol

import structlog

from integrations.addresses import KafkaAddress
from integrations.postgres.pool import tls_context

_STOP_S = 5.0

log = structlog.get_logger(__name__)


def connection_options(address: KafkaAddress) -> dict[str, Any]:
    """Return the driver's options for the bootstrap brokers, with TLS where the address has it."""
    context = tls_context(address.tls)
    return {
        "bootstrap_servers": list(address.bootstrap),
        "security_protocol": "SSL" if context else "PLAINTEXT",
        "ssl_context": context,
    }


class Stoppable(Protocol):
    """A producer or consumer of the driver."""

    async def stop(self) -> None:
        """Disconnect."""
        ...


async def stop_client(client: Stoppable) -> None:
    """Disconnect within a bounded time and whatever happens.

    In a task of its own: after an outage the driver awaits tasks that it has cancelled itself, and their cancellation
    would look like ours.
    """
    stopping = asyncio.ensure_future(client.stop())
    done, late = await asyncio.wait({stopping}, timeout=_STOP_S)
    for task in late:
        task.cancel()
        await asyncio.wait({task}, timeout=_STOP_S)
    failed = not done or stopping.cancelled() or stopping.exception() is not None
    if failed:
        log.debug("broker_client_abandoned", client=type(client).__name__)
