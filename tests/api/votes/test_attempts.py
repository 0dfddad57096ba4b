"""Every attempt to vote is told to fraud detection, by either way of voting; no vote waits for that, or is told of."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from api.votes.attempts import Attempts
from domain.contracts.voting import VotesAttempted
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.kafka.connection import connection_options
from integrations.kafka.topics import VOTES_ATTEMPTED, ensure_topic
from integrations.settings import Settings
from tests.api.votes.conftest import CELL, Votes
from tests.voting_world import Booth, TokenDesk


class Broker:
    """A broker of a test."""

    def __init__(self) -> None:
        self.away = False
        self.messages: list[VotesAttempted] = []

    async def publish_attempts(self, message: VotesAttempted) -> None:
        if self.away:
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE)
        self.messages.append(message)


def claims(survey_id: str = "s_1", device: str = "d") -> VotingClaims:
    return VotingClaims(survey_id, bytes(32), CELL, "north", bytes(64), device, None, 0, 0)


async def test_like_attempts_are_one_row_and_what_was_told_is_forgotten() -> None:
    broker = Broker()
    attempts = Attempts(broker, b"k" * 32, "process")
    for client in ("192.0.2.1", "192.0.2.77", "198.51.100.1"):  # the first two are of one network
        attempts.note(claims(), client, "confirmed")
    attempts.note(claims(), "192.0.2.1", ErrorCode.ALREADY_VOTED)
    await attempts.flush()
    await attempts.flush()
    (message,) = broker.messages
    assert sorted((row.outcome, row.count) for row in message.attempts) == [
        ("already_voted", 1),
        ("confirmed", 1),
        ("confirmed", 2),
    ]
    assert "192.0.2" not in message.model_dump_json()


async def test_what_one_message_does_not_hold_is_counted() -> None:
    broker = Broker()
    attempts = Attempts(broker, b"k" * 32, "process")
    for number in range(10_003):
        attempts.note(claims(device=str(number)), "192.0.2.1", "confirmed")
    await attempts.flush()
    (message,) = broker.messages
    assert (len(message.attempts), message.left_out) == (10_000, 3)


async def test_a_broker_that_is_away_costs_the_attempts_of_then() -> None:
    broker = Broker()
    attempts = Attempts(broker, b"k" * 32, "process")
    broker.away = True
    attempts.note(claims(), "192.0.2.1", "confirmed")
    await attempts.flush()
    broker.away = False
    attempts.note(claims(), "192.0.2.1", "accepted")
    await attempts.flush()
    assert [[row.outcome for row in message.attempts] for message in broker.messages] == [["accepted"]]


@pytest_asyncio.fixture
async def told(votes_settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """What is told from now on."""
    address, topic = votes_settings.cells[CELL].kafka, VOTES_ATTEMPTED.of(CELL)
    await ensure_topic(address, topic, VOTES_ATTEMPTED)
    consumer = AIOKafkaConsumer(topic, auto_offset_reset="latest", **connection_options(address))
    await consumer.start()
    await consumer.seek_to_end()
    for partition in consumer.assignment():
        await consumer.position(partition)
    yield consumer
    await consumer.stop()


async def outcomes_of(told: AIOKafkaConsumer, survey_id: str, attempts: int) -> Counter[str]:
    found: Counter[str] = Counter()
    async with asyncio.timeout(20):
        while found.total() < attempts:
            for records in (await told.getmany(timeout_ms=200)).values():
                rows: list[dict[str, Any]] = [row for each in records for row in json.loads(each.value)["attempts"]]
                for row in rows:
                    if row["survey_id"] == survey_id:
                        found[row["outcome"]] += row["count"]
    return found


@pytest.mark.parametrize("steps", [False, True], ids=["whole", "in steps"])
async def test_a_vote_and_a_second_one_are_told(
    votes: Votes, booth: Booth, desk: TokenDesk, told: AIOKafkaConsumer, *, steps: bool
) -> None:
    token = desk.token(booth.survey.id, CELL)
    for _ in range(2):
        if not steps:
            await votes.cast(booth, token)
            continue
        address, headers = f"/v1/surveys/{booth.survey.id}/answers", {"authorization": f"Bearer {token}"}
        first = await votes.client.post(address, json={"question": "1", "option": "1"}, headers=headers)
        await votes.client.put(f"{address}/{first.json()['surveyAnswer']['id']}/finish", headers=headers)
    assert await outcomes_of(told, booth.survey.id, 2) == {"confirmed": 1, "already_voted": 1}


async def test_a_vote_in_steps_is_counted_like_any_other(votes: Votes, booth: Booth, desk: TokenDesk) -> None:
    async def counted() -> dict[str, float]:
        lines = (await votes.client.get("/metrics")).text.splitlines()
        pairs = (line.rpartition(" ")[::2] for line in lines)
        return {name: float(value) for name, value in pairs if name.startswith(("vote_", "votes_"))}

    token = desk.token(booth.survey.id, CELL)
    address, headers = f"/v1/surveys/{booth.survey.id}/answers", {"authorization": f"Bearer {token}"}
    first = await votes.client.post(address, json={"question": "1", "option": "1"}, headers=headers)
    before = await counted()
    for session in (first.json()["surveyAnswer"]["id"], "nobodys"):
        await votes.client.put(f"{address}/{session}/finish", headers=headers)
    after = await counted()
    grown = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    assert grown["vote_requests_total"] == 2
    assert grown["vote_confirm_seconds_count"] == 1
    assert grown['vote_refusals_total{code="answer_session_not_found"}'] == 1
