"""Sends messages durably: acknowledged by every replica in sync, each once in its partition."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from domain.errors import DomainError, ErrorCode
from integrations.addresses import KafkaAddress
from integrations.kafka.connection import connection_options, stop_client
from integrations.telemetry.tracing import to_kafka_headers
from integrations.telemetry.waiting_metrics import WaitingMetrics

_OPTIONS: dict[str, Any] = {"acks": "all", "enable_idempotence": True, "linger_ms": 0}
_METADATA_MAX_AGE_MS = 30_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """A message; keys are pseudonyms, since no broker encrypts them."""

    topic: str
    key: str
    value: bytes


class DurableProducer:
    """Connects on first use, so that a process starts without its broker; a failed client is replaced by a new one."""

    def __init__(
        self,
        address: KafkaAddress,
        client_id: str,
        *,
        timeout_s: float = 1.5,
        metrics: WaitingMetrics | None = None,
    ) -> None:
        """`timeout_s` bounds a send as a whole: under the two seconds of a local activity."""
        self._metrics = None if metrics is None else metrics.sends(client_id)
        self._address = address
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._client: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._failing = False

    async def send(self, messages: Sequence[Message]) -> None:
        """Return when the broker has every message durably. Trace context travels in the headers.

        Raises:
            DomainError: `broker_unavailable`; some of the messages may be there, and sending again is safe.
        """
        with nullcontext() if self._metrics is None else self._metrics.sending():
            await self._send(messages)

    async def _send(self, messages: Sequence[Message]) -> None:
        client: AIOKafkaProducer | None = None
        headers = to_kafka_headers()
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await self._started()
                waiting = [
                    await client.send(message.topic, message.value, message.key.encode(), headers=headers)
                    for message in messages
                ]
                await asyncio.gather(*waiting)
        except (KafkaError, OSError, TimeoutError) as error:
            self._replace(client)
            if self._metrics is not None:
                self._metrics.failed()
            self._report(failing=True, error=type(error).__name__)
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE, type(error).__name__) from error
        self._report(failing=False)

    async def close(self) -> None:
        """Send what waits and disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await stop_client(client)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def durability(self) -> dict[str, str]:
        """Return what this producer asks of the broker."""
        return {"acks": str(_OPTIONS["acks"]), "enable_idempotence": str(_OPTIONS["enable_idempotence"]).lower()}

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._client is None:
                client = AIOKafkaProducer(
                    client_id=self._client_id,
                    metadata_max_age_ms=_METADATA_MAX_AGE_MS,
                    request_timeout_ms=round(self._timeout_s * 1000),
                    retry_backoff_ms=50,
                    **_OPTIONS,
                    **connection_options(self._address),
                )
                try:
                    await client.start()
                except BaseException:
                    self._retire(client)
                    raise
                self._client = client
            return self._client

    def _replace(self, client: AIOKafkaProducer | None) -> None:
        """Never go on with a client after a failure: its sequence numbers may have a hole."""
        if client is not None and client is self._client:
            self._client = None
            self._retire(client)

    def _retire(self, client: AIOKafkaProducer) -> None:
        task = asyncio.get_running_loop().create_task(stop_client(client))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _report(self, *, failing: bool, error: str = "") -> None:
        """Log when the state changes, not with every message."""
        if failing != self._failing:
            self._failing = failing
            if failing:
                log.warning("broker_lost", client=self._client_id, error=error)
            else:
                log.info("broker_found", client=self._client_id)
