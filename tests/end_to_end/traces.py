"""Reads all that a platform keeps and says where something stands that nobody should find there."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from google.protobuf.message import Message

from comitia.stack.addresses import DATABASES
from comitia.stack.ports import HOST
from comitia.stack.state import CELLS
from integrations.addresses import RedisAddress
from integrations.redis.connection import open_redis
from tests.end_to_end.house import House

_FETCH_MS = 200


@dataclass(frozen=True)
class Kept:
    """Something that was found: `place` begins with its kind (`log`, `file`, `spans`, `metrics`, `postgres`, ...)."""

    place: str
    content: bytes


def encodings(marker: bytes) -> Iterator[bytes]:
    """Return the forms in which a value may stand in bytes: as it is, in hexadecimal, in base64 at any offset."""
    yield marker
    yield marker.hex().encode()
    yield marker.hex().upper().encode()
    for offset in range(3):
        whole = base64.b64encode(bytes(offset) + marker)
        # the first and last characters depend on what stands beside it
        inner = whole[-(-offset * 8 // 6) : (offset + len(marker)) * 8 // 6]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")


def standing(kept: Iterable[Kept], markers: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Return what stands where, as names and places."""
    # each form by itself: among so many bytes one pattern of all of them takes ten times as long
    forms = {name: tuple(set(encodings(marker))) for name, marker in markers.items()}
    return {
        (name, item.place)
        for item in kept
        for name, each in forms.items()
        if any(form in item.content for form in each)
    }


def unpermitted(found: Iterable[tuple[str, str]], allowed: Mapping[str, str]) -> set[str]:
    """Return `name: place` of what may not stand there; `allowed` has, by a marker's name, a pattern of places."""
    return {f"{name}: {place}" for name, place in found if name not in allowed or not re.match(allowed[name], place)}


async def everything(house: House) -> list[Kept]:
    """Return all that the platform keeps outside the key folder."""
    kept = [item for source in (_logs(house), _files(house), _spans(house)) for item in source]
    for several in (_postgres(house), _temporal(house), _redis(house), _kafka(house), _metrics(house)):
        kept += [item async for item in several]
    return kept


def kinds(kept: Iterable[Kept]) -> set[str]:
    """Return the kinds of places that were read."""
    return {item.place.partition(" ")[0] for item in kept}


def _logs(house: House) -> Iterator[Kept]:
    for path in house.logs.iterdir():
        yield Kept(f"log {path.name}", path.read_bytes())


def _files(house: House) -> Iterator[Kept]:
    """The stores of Temporal and Redis as they are on the disk; Kafka's may be compressed and is read through it."""
    for folder in ("temporal", "redis"):
        for path in (Path(house.state.folder) / folder).rglob("*"):
            if path.is_file():
                yield Kept(f"file {folder}/{path.name}", path.read_bytes())


def _spans(house: House) -> Iterator[Kept]:
    for body in tuple(house.spans.received):
        yield Kept("spans", body)


async def _metrics(house: House) -> AsyncIterator[Kept]:
    """What every process shows to whoever scrapes it, exemplars included."""
    async with httpx.AsyncClient(trust_env=False, headers={"accept": "application/openmetrics-text"}) as client:
        for name, url in house.supervisor.urls.items():
            yield Kept(f"metrics {name}", (await client.get(f"{url}/metrics")).content)


async def _postgres(house: House) -> AsyncIterator[Kept]:
    for name in DATABASES:
        pool = house.owners[name]
        tables = await pool.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        for table in tables:
            rows = await pool.fetch(f"SELECT row_to_json(kept)::text AS text FROM {table['name']} AS kept")
            for row in rows:
                yield Kept(f"postgres {name} {table['name']}", row["text"].encode())


async def _temporal(house: House) -> AsyncIterator[Kept]:
    for namespace, client in house.temporal.items():
        async for execution in client.list_workflows():
            yield Kept(f"temporal {namespace} id {execution.workflow_type}", execution.id.encode())
            yield Kept(f"temporal {namespace} listed {execution.workflow_type}", _bytes_of(execution.raw_info))
            history = await client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history()
            for event in history.events:
                yield Kept(f"temporal {namespace} history {execution.workflow_type}", _bytes_of(event))


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()


async def _redis(house: House) -> AsyncIterator[Kept]:
    for number, cell in enumerate(CELLS):
        redis = open_redis(RedisAddress(host=HOST, port=house.state.ports["redis"], database=number), connections=1)
        async for key in redis.scan_iter():
            yield Kept(f"redis {cell} key", key)
            content = await _value(redis, key)
            yield Kept(f"redis {cell} value", content)
        await redis.aclose()


async def _value(redis: Any, key: bytes) -> bytes:
    read = {
        b"string": lambda: redis.get(key),
        b"hash": lambda: redis.hgetall(key),
        b"set": lambda: redis.smembers(key),
        b"list": lambda: redis.lrange(key, 0, -1),
        b"zset": lambda: redis.zrange(key, 0, -1),
    }
    value = await read[await redis.type(key)]()
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    return b"\n".join(value) if isinstance(value, list | set) else value or b""


async def _kafka(house: House) -> AsyncIterator[Kept]:
    address = f"{HOST}:{house.state.ports['kafka']}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    topics = [topic for topic in await admin.list_topics() if not topic.startswith("__")]
    described = await admin.describe_topics(topics)
    await admin.close()
    partitions = [
        TopicPartition(found["topic"], part["partition"]) for found in described for part in found["partitions"]
    ]
    consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        async with asyncio.timeout(60):
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for partition, records in (await consumer.getmany(timeout_ms=_FETCH_MS)).items():
                    for record in records:
                        headers = b"\n".join(part for name, value in record.headers for part in (name.encode(), value))
                        yield Kept(f"kafka {partition.topic} key", record.key or b"")
                        yield Kept(f"kafka {partition.topic} headers", headers)
                        yield Kept(f"kafka {partition.topic} value", record.value or b"")
    finally:
        await consumer.stop()
