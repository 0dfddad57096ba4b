"""Summaries that come again and in any order: Kafka promises at least once, and the tally must count once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from comitia.stack.ports import HOST
from comitia.stack.state import CELLS
from integrations.kafka.topics import BATCH_RECORDED
from tests.faults.experiment import Fault
from tests.faults.stage import Stage

_LASTS_S = 6.0
_AGAIN_EVERY_S = 0.3


async def _send_again(stage: Stage, cell: str) -> None:
    """Read what was announced from its beginning, and send all of it again, shuffled, wherever it likes."""
    address = f"{HOST}:{stage.house.state.ports['kafka']}"
    topic = BATCH_RECORDED.of(cell)
    partitions = [TopicPartition(topic, number) for number in range(BATCH_RECORDED.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await consumer.start()
    await producer.start()
    chance = random.Random(cell)
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition, end in ends.items():
            consumer.seek(partition, max(0, end - 500))
        seen: list[tuple[bytes | None, bytes]] = []
        while True:
            for found in (await consumer.getmany(timeout_ms=100)).values():
                seen += [(message.key, message.value) for message in found]
            seen = seen[-1000:]
            again = chance.sample(seen, min(len(seen), 300))
            for key, value in again:
                await producer.send(topic, value, key=key, partition=chance.randrange(BATCH_RECORDED.partitions))
            await producer.flush()
            await asyncio.sleep(_AGAIN_EVERY_S)
    finally:
        await producer.stop()
        await consumer.stop()


@asynccontextmanager
async def repeated(stage: Stage) -> AsyncIterator[None]:
    """Send every cell's summaries again and again, out of order."""
    sending = [asyncio.create_task(_send_again(stage, cell)) for cell in CELLS]
    try:
        yield
        for task in sending:
            if task.done():
                task.result()  # it must not have ended
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


REPEATED = Fault("messages/repeated-and-reordered", repeated, seconds=_LASTS_S)
