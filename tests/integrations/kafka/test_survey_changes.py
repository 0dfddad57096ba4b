import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from domain.contracts.surveys import AnnounceSurveyInput, SurveyChanged, SurveyStage
from domain.errors import DomainError, ErrorCode
from domain.ids import new_survey_id
from integrations.addresses import KafkaAddress
from integrations.kafka.connection import connection_options
from integrations.kafka.survey_changes import SurveyChangeProducer
from integrations.kafka.topics import SURVEYS_CHANGED, ensure_topic
from tests.conftest import SettingsFor

CELL = "eu"


@pytest.fixture
def address(settings_for: SettingsFor, kafka: None) -> KafkaAddress:
    return settings_for().cells[CELL].kafka


@pytest_asyncio.fixture(loop_scope="session")
async def announcer(address: KafkaAddress) -> AsyncIterator[SurveyChangeProducer]:
    made = SurveyChangeProducer({CELL: address})
    yield made
    await made.close()


def change(cell: str = CELL) -> AnnounceSurveyInput:
    found = SurveyChanged(survey_id=new_survey_id(), version=3, stage=SurveyStage.PUBLISHED)
    return AnnounceSurveyInput(cell=cell, change=found)


async def test_a_change_is_told_under_the_surveys_id(announcer: SurveyChangeProducer, address: KafkaAddress) -> None:
    told = change()
    await announcer.announce(told)
    await announcer.announce(told)
    topic = SURVEYS_CHANGED.of(CELL)
    await ensure_topic(address, topic, SURVEYS_CHANGED)
    consumer = AIOKafkaConsumer(topic, auto_offset_reset="earliest", **connection_options(address))
    await consumer.start()
    heard: list[object] = []
    try:
        async with asyncio.timeout(20):
            while len(heard) < 2:
                message = await consumer.getone()
                if message.key == told.change.survey_id.encode():
                    heard.append(json.loads(message.value))
    finally:
        await consumer.stop()
    assert heard == [told.change.model_dump(mode="json")] * 2


async def test_a_cell_that_is_not_known_is_tried_again_later(announcer: SurveyChangeProducer) -> None:
    with pytest.raises(DomainError) as refused:
        await announcer.announce(change("xx"))
    assert refused.value.code is ErrorCode.BROKER_UNAVAILABLE


async def test_a_broker_that_is_away_is_said_to_be(unused_tcp_port: int) -> None:
    away = SurveyChangeProducer({CELL: KafkaAddress(port=unused_tcp_port)})
    with pytest.raises(DomainError) as refused:
        await away.announce(change())
    assert refused.value.code is ErrorCode.BROKER_UNAVAILABLE
    await away.close()
