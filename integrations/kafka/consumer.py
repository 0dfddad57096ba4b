"""Reads the batch summaries of one cell from chosen offsets; nothing is kept in Kafka about how far."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from domain.errors import DomainError, ErrorCode
from domain.tally import Addition
from integrations.addresses import KafkaAddress
from integrations.kafka.connection import connection_options, stop_client
from integrations.kafka.summaries import UnreadableSummaryError, read_summary
from integrations.kafka.topics import BATCH_RECORDED, ensure_topic
from integrations.telemetry.tracing import kept_trace

_REQUEST_TIMEOUT_MS = 5_000
_CALL_S = 6.0
_FETCH_BYTES = 4 * 1024 * 1024


class OffsetsLostError(Exception):
    """The topic no longer has an offset that is to be read; only the ledger knows what was there."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message: what it adds, None where it is not a summary; `appended_ms` is the broker's time.

    `trace` is the `traceparent` that it came with where somebody keeps that trace, else empty.
    """

    offset: int
    appended_ms: int
    addition: Addition | None
    trace: bytes = b""


class SummaryConsumer:
    """All partitions of one cell's summaries. Calls raise DomainError `broker_unavailable`.

    The ends of the topic are asked for on a connection of their own: the broker answers in order, so a question behind
    a waiting fetch would wait with it.
    """

    def __init__(self, address: KafkaAddress, cell: str) -> None:
        self._address = address
        self._topic = BATCH_RECORDED.of(cell)
        self._client: AIOKafkaConsumer | None = None
        self._asking: AIOKafkaConsumer | None = None
        self._partitions: dict[int, TopicPartition] = {}
        self.partitions = 0

    async def open(self) -> None:
        """Connect; the topic is made where it is missing. Nothing is read before `seek` of every partition."""
        self.partitions = await ensure_topic(self._address, self._topic, BATCH_RECORDED)
        self._partitions = {number: TopicPartition(self._topic, number) for number in range(self.partitions)}
        self._client = await self._connect()
        self._asking = await self._connect()

    async def _connect(self) -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            metadata_max_age_ms=30_000,
            check_crcs=True,
            **connection_options(self._address),
        )
        try:
            async with _broker_failures():
                await client.start()
        except BaseException:
            await stop_client(client)
            raise
        return client

    async def close(self) -> None:
        """Disconnect."""
        clients = (self._client, self._asking)
        self._client = self._asking = None
        for client in clients:
            if client is not None:
                await stop_client(client)

    def start_at(self, positions: Mapping[int, int]) -> None:
        """Begin to read, every partition from its offset."""
        self._consumer.assign(list(self._partitions.values()))
        self.seek(positions)

    def seek(self, positions: Mapping[int, int]) -> None:
        """Go on from other offsets."""
        for partition, offset in positions.items():
            self._consumer.seek(self._partitions[partition], offset)

    async def poll(self, *, timeout_s: float, limit: int) -> dict[int, list[Delivery]]:
        """Return what is there, at most `limit` messages, by partition and in order; empty after `timeout_s`.

        Raises:
            OffsetsLostError: an offset is out of range.
        """
        async with _broker_failures():
            try:
                found = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=limit)
            except OffsetOutOfRangeError as error:
                raise OffsetsLostError(str(error)) from error
        return {
            tp.partition: [
                Delivery(record.offset, record.timestamp, _read(record.value), kept_trace(record.headers))
                for record in records
            ]
            for tp, records in found.items()
        }

    async def ends(self) -> dict[int, int]:
        """Return for every partition the offset after its last message, as the broker has it now."""
        if self._asking is None:
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE, "not connected")
        async with _broker_failures():
            found = await self._asking.end_offsets(list(self._partitions.values()))
        return {tp.partition: offset for tp, offset in found.items()}

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE, "not connected")
        return self._client


def _read(value: bytes | None) -> Addition | None:
    try:
        return read_summary(value or b"")
    except UnreadableSummaryError:
        return None


@asynccontextmanager
async def _broker_failures() -> AsyncIterator[None]:
    """Bound a call, since the driver itself goes on trying through an outage of any length."""
    try:
        async with asyncio.timeout(_CALL_S):
            yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise DomainError(ErrorCode.BROKER_UNAVAILABLE, type(error).__name__) from error
