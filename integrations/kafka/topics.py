"""The topics: their names per cell, how they keep what they are told, and making them."""

import asyncio
from dataclasses import dataclass, field

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NodeNotReadyError, TopicAlreadyExistsError, for_code

from domain.errors import DomainError, ErrorCode
from integrations.addresses import KafkaAddress
from integrations.kafka.connection import connection_options

_DAY_MS = 24 * 60 * 60 * 1000
_REQUEST_TIMEOUT_MS = 5_000
_LEADERS_WITHIN_S = 5.0
_LEADERS_PAUSE_S = 0.02
_REPLICATED = 3  # from here on a topic can lose a broker and still ask two for every acknowledgement

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of every cell; `timestamps` are the broker's, so that they never fall within a partition."""

    name: str
    partitions: int
    retention_ms: int
    settings: dict[str, str] = field(default_factory=dict)

    def of(self, cell: str) -> str:
        """Return the topic's name in a cell."""
        return f"{cell}.{self.name}"


BATCH_RECORDED = Topic("votes.batch-recorded.v1", partitions=4, retention_ms=7 * _DAY_MS)
VOTES_ATTEMPTED = Topic("votes.attempted.v1", partitions=4, retention_ms=1 * _DAY_MS)
SURVEYS_CHANGED = Topic("surveys.changed.v1", partitions=1, retention_ms=30 * _DAY_MS)


class LossyTopicError(RuntimeError):
    """The topic could lose what it acknowledged."""


async def ensure_topic(address: KafkaAddress, name: str, topic: Topic) -> int:
    """Make a topic unless it is there, and see that it keeps what it acknowledges; return its number of partitions.

    Raises:
        DomainError: `broker_unavailable`, also where the topic could lose a message: nothing is sent to it then.
    """
    in_sync = 2 if address.replication >= _REPLICATED else 1
    settings = {
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(topic.retention_ms),
        "min.insync.replicas": str(in_sync),
        "unclean.leader.election.enable": "false",
        **topic.settings,
    }
    wanted = NewTopic(name, topic.partitions, address.replication, topic_configs=settings)
    admin = AIOKafkaAdminClient(request_timeout_ms=_REQUEST_TIMEOUT_MS, **connection_options(address))
    try:
        await admin.start()
        try:
            await create_topic(admin, wanted)
            partitions = await _partitions(admin, name)
            await _durability(admin, address, name)
            return partitions
        finally:
            await admin.close()
    except LossyTopicError as error:
        log.exception("topic_lossy", topic=name)
        raise DomainError(ErrorCode.BROKER_UNAVAILABLE, type(error).__name__) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise DomainError(ErrorCode.BROKER_UNAVAILABLE, type(error).__name__) from error


async def create_topic(admin: AIOKafkaAdminClient, wanted: NewTopic) -> None:
    """Make a topic unless there is one of its name.

    Raises:
        KafkaError: it was not made, also where nobody says who could.
    """
    try:
        answer = await admin.create_topics([wanted])
    except AttributeError as error:  # how the driver says that no broker names a controller: it is about to come back
        raise NodeNotReadyError("no controller") from error
    for _, code, *_ in answer.topic_errors:
        refusal = for_code(code)
        if code and refusal is not TopicAlreadyExistsError:
            raise refusal


async def _partitions(admin: AIOKafkaAdminClient, name: str) -> int:
    """Return the number of partitions once each has a leader, which a new topic has a moment later."""
    async with asyncio.timeout(_LEADERS_WITHIN_S):
        while True:
            (found,) = await admin.describe_topics([name])
            partitions = found["partitions"]
            if partitions and all(partition["leader"] >= 0 for partition in partitions):
                return len(partitions)
            await asyncio.sleep(_LEADERS_PAUSE_S)


async def topic_durability(address: KafkaAddress, name: str) -> dict[str, str]:
    """Return how a topic keeps what it acknowledged, as the broker reports it.

    Raises:
        LossyTopicError: it has fewer replicas than the address asks for; with three or more, one broker's word is
            enough; or a stale one may lead.
        DomainError: `broker_unavailable`.
    """
    admin = AIOKafkaAdminClient(request_timeout_ms=_REQUEST_TIMEOUT_MS, **connection_options(address))
    try:
        await admin.start()
        try:
            return await _durability(admin, address, name)
        finally:
            await admin.close()
    except (KafkaError, OSError, TimeoutError) as error:
        raise DomainError(ErrorCode.BROKER_UNAVAILABLE, type(error).__name__) from error


async def _durability(admin: AIOKafkaAdminClient, address: KafkaAddress, name: str) -> dict[str, str]:
    wanted = ("min.insync.replicas", "unclean.leader.election.enable")
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(wanted))])
    (described,) = await admin.describe_topics([name])
    entries = [entry for answer in answers for resource in answer.resources for entry in resource[4]]
    found = {str(entry[0]): str(entry[1]) for entry in entries if entry[0] in wanted}
    replicas = min((len(partition["replicas"]) for partition in described["partitions"]), default=0)
    found["replicas"] = str(replicas)
    if replicas < address.replication:
        raise LossyTopicError(f"{name}: {replicas} replicas, not {address.replication}")
    if found.get("unclean.leader.election.enable") != "false":
        raise LossyTopicError(f"{name}: a replica that is behind may become leader")
    if replicas >= _REPLICATED and int(found.get("min.insync.replicas", "0")) < 2:  # noqa: PLR2004
        raise LossyTopicError(f"{name}: one broker's word is enough")
    return found
