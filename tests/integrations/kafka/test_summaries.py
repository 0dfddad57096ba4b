import asyncio

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from opentelemetry.sdk.trace import TracerProvider

from domain.contracts.voting import BatchSummary, RegionCounts
from domain.errors import DomainError, ErrorCode
from domain.tally import Addition
from integrations.kafka.connection import connection_options
from integrations.kafka.summaries import SummaryProducer, UnreadableSummaryError, read_summary
from integrations.kafka.topics import (
    BATCH_RECORDED,
    LossyTopicError,
    Topic,
    create_topic,
    ensure_topic,
    topic_durability,
)
from tests.workers.tally_cells import DEADLINE_S, TallyCell

GATEWAY = bytes(range(240, 256))  # its base64 has both characters that alphabets differ in


def summary(**fields: object) -> BatchSummary:
    values = {
        "cell": "eu",
        "gateway_id": GATEWAY,
        "number": 3,
        "survey_id": "s_1",
        "regions": (RegionCounts(region="north", ballots=2, options={"1": 2, "2": 1}),),
    }
    return BatchSummary(**{**values, **fields})


def test_what_is_written_is_what_is_read() -> None:
    sent = summary()
    counts = {("north", ""): 2, ("north", "1"): 2, ("north", "2"): 1}
    assert read_summary(sent.model_dump_json().encode()) == Addition("s_1", GATEWAY.hex(), 3, counts)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"{}",
        summary(number=0).model_dump_json().encode(),
        summary(gateway_id=b"short").model_dump_json().encode(),
        summary(survey_id="").model_dump_json().encode(),
        summary(regions=(RegionCounts(region="north", ballots=-1, options={}),)).model_dump_json().encode(),
    ],
)
def test_what_is_no_summary(value: bytes) -> None:
    with pytest.raises(UnreadableSummaryError):
        read_summary(value)


async def test_trace_context_travels_in_the_headers_and_the_key_is_the_survey(tally_cell: TallyCell) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("outer") as span:
        await tally_cell.producer.publish((summary(survey_id="s_traced"),))
    address = tally_cell.settings.cells[tally_cell.name].kafka
    consumer = AIOKafkaConsumer(
        BATCH_RECORDED.of(tally_cell.name),
        bootstrap_servers=f"{address.host}:{address.port}",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            record = await consumer.getone()
    finally:
        await consumer.stop()
    trace_id = format(span.get_span_context().trace_id, "032x")
    assert record.key == b"s_traced"
    assert trace_id in dict(record.headers)["traceparent"].decode()


async def test_a_broker_that_is_away_is_an_error_in_time_and_can_come_back(tally_cell: TallyCell) -> None:
    address = tally_cell.settings.cells[tally_cell.name].kafka
    producer = SummaryProducer(address.model_copy(update={"port": 1}), tally_cell.name)
    for _ in range(2):
        with pytest.raises(DomainError) as refused:
            await producer.publish((summary(),))
        assert refused.value.code is ErrorCode.BROKER_UNAVAILABLE
    await producer.close()


async def test_topics_are_made_once_and_keep_what_they_acknowledge(tally_cell: TallyCell) -> None:
    address = tally_cell.settings.cells[tally_cell.name].kafka
    name = f"{tally_cell.name}.made"
    topic = Topic("made", partitions=2, retention_ms=60_000)
    assert await ensure_topic(address, name, topic) == 2
    assert await ensure_topic(address, name, topic) == 2
    found = await topic_durability(address, name)
    assert found == {"min.insync.replicas": "1", "unclean.leader.election.enable": "false", "replicas": "1"}
    assert tally_cell.producer.durability() == {"acks": "all", "enable_idempotence": "true"}


async def test_a_broker_that_names_no_controller_is_a_broker_that_is_away(
    tally_cell: TallyCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told_of_none(client: AIOKafkaClient) -> bool:
        client.cluster.controller = None  # as by a broker that was stopped for longer than its session
        return False

    monkeypatch.setattr(AIOKafkaClient, "force_metadata_update", told_of_none)
    admin = AIOKafkaAdminClient(**connection_options(tally_cell.settings.cells[tally_cell.name].kafka))
    await admin.start()
    try:
        await told_of_none(admin._client)
        with pytest.raises(KafkaError, match="no controller"):
            await create_topic(admin, NewTopic(f"{tally_cell.name}.unmade", 1, 1))
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("settings", "replication", "detail"),
    [
        ({"unclean.leader.election.enable": "true"}, 1, "a replica that is behind may become leader"),
        ({}, 3, "1 replicas, not 3"),
    ],
)
async def test_a_topic_that_could_lose_messages_is_not_used(
    tally_cell: TallyCell, settings: dict[str, str], replication: int, detail: str
) -> None:
    address = tally_cell.settings.cells[tally_cell.name].kafka
    name = f"{tally_cell.name}.lossy-{replication}"
    lossy = Topic(name, partitions=1, retention_ms=60_000, settings=settings)
    if replication > 1:  # made by somebody who asked for less
        await ensure_topic(address, name, lossy)
    with pytest.raises(DomainError) as refused:
        await ensure_topic(address.model_copy(update={"replication": replication}), name, lossy)
    assert refused.value.code is ErrorCode.BROKER_UNAVAILABLE
    with pytest.raises(LossyTopicError, match=detail):
        await topic_durability(address.model_copy(update={"replication": replication}), name)
