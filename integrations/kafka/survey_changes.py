"""Changes of public surveys on their way to whoever keeps copies."""

from collections.abc import Mapping

from domain.contracts.surveys import AnnounceSurveyInput
from domain.errors import DomainError, ErrorCode
from integrations.addresses import KafkaAddress
from integrations.kafka.producer import DurableProducer, Message
from integrations.kafka.topics import SURVEYS_CHANGED, ensure_topic
from integrations.telemetry.waiting_metrics import WaitingMetrics


class SurveyChangeProducer:
    """Implements `SurveyAnnouncer` for every cell. The key is the survey's id, so that its changes stay in order."""

    def __init__(self, addresses: Mapping[str, KafkaAddress], *, metrics: WaitingMetrics | None = None) -> None:
        self._addresses = addresses
        self._producers = {
            cell: DurableProducer(address, f"comitia-surveys-{cell}", timeout_s=5.0, metrics=metrics)
            for cell, address in addresses.items()
        }
        self._made: set[str] = set()

    async def announce(self, request: AnnounceSurveyInput) -> None:
        """Return when the cell's broker has it durably; at least once.

        Raises:
            DomainError: `broker_unavailable`.
        """
        cell = request.cell
        if cell not in self._producers:  # a worker that does not know the cell yet; another one may
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE, f"no address of cell {cell}")
        topic = SURVEYS_CHANGED.of(cell)
        if cell not in self._made:
            await ensure_topic(self._addresses[cell], topic, SURVEYS_CHANGED)
            self._made.add(cell)
        change = request.change
        await self._producers[cell].send([Message(topic, change.survey_id, change.model_dump_json().encode())])

    async def close(self) -> None:
        """Disconnect."""
        for producer in self._producers.values():
            await producer.close()
