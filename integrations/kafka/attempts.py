"""Attempts to vote, on their way to fraud detection; lossy by design."""

from domain.contracts.voting import VotesAttempted
from integrations.addresses import KafkaAddress
from integrations.kafka.producer import DurableProducer, Message
from integrations.kafka.topics import VOTES_ATTEMPTED, ensure_topic
from integrations.telemetry.waiting_metrics import WaitingMetrics


class AttemptProducer:
    """Sends one message a second and process to a cell's topic."""

    def __init__(self, address: KafkaAddress, cell: str, *, metrics: WaitingMetrics | None = None) -> None:
        self._address = address
        self._topic = VOTES_ATTEMPTED.of(cell)
        self._producer = DurableProducer(address, f"comitia-attempts-{cell}", metrics=metrics)
        self._topic_made = False

    async def publish_attempts(self, message: VotesAttempted) -> None:
        """Send what a process saw within a second; the key is the process.

        Raises:
            DomainError: `broker_unavailable`; that second is lost.
        """
        if not self._topic_made:
            await ensure_topic(self._address, self._topic, VOTES_ATTEMPTED)
            self._topic_made = True
        await self._producer.send([Message(self._topic, message.process, message.model_dump_json().encode())])

    async def close(self) -> None:
        """Disconnect."""
        await self._producer.close()
