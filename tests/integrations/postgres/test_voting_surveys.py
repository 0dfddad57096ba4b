"""What the vote path believes of a survey: after a while without votes it is read again before anybody is refused."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from integrations.keys.file_kms import FileKms
from integrations.postgres.voting_surveys import VotingSurvey, VotingSurveys
from tests.voting_world import LONG_AGO, small_survey

LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Cell:
    """A cell's database with one survey; it answers, fails or hangs."""

    def __init__(self, wrapped: bytes) -> None:
        self.survey = small_survey()
        self.now = 1000.0
        self.is_answering = asyncio.Event()
        self.is_answering.set()
        self.failure: Exception | None = None
        self.reads = 0
        self.row: dict[str, Any] = {
            "definition": self.survey.model_dump_json(),
            "wrapped_ballot_key": wrapped,
            "start_at": LONG_AGO,
            "finish_at": LONG_AGO,
            "sealed": False,
            "paused": False,
        }

    async def fetchrow(self, _: str, survey_id: str) -> dict[str, Any] | None:
        self.reads += 1
        await self.is_answering.wait()
        if self.failure is not None:
            raise self.failure
        return dict(self.row) if survey_id == self.survey.id else None


class Keys(FileKms):
    """Keys that are all the same."""

    def __init__(self) -> None:
        """Hold nothing."""

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        return bytes(32)


@pytest.fixture
def cell() -> Cell:
    return Cell(b"wrapped")


@pytest.fixture
def surveys(cell: Cell) -> VotingSurveys:
    return VotingSurveys(cell, Keys(), now=lambda: cell.now)  # type: ignore[arg-type]


async def asked(surveys: VotingSurveys, cell: Cell) -> VotingSurvey:
    """Ask as a vote does."""
    found = surveys.peek(cell.survey.id) or await surveys.get(cell.survey.id)
    assert found is not None
    return found


async def test_the_first_vote_after_a_while_hears_of_an_extension_and_of_a_pause(
    surveys: VotingSurveys, cell: Cell
) -> None:
    assert (await asked(surveys, cell)).window.finish_at == LONG_AGO
    cell.row |= {"finish_at": LATER, "paused": True}
    cell.now += 3600
    several = await asyncio.gather(*(asked(surveys, cell) for _ in range(5)))
    assert {(found.window.finish_at, found.is_paused) for found in several} == {(LATER, True)}
    assert cell.reads == 2


async def test_votes_that_come_all_the_time_wait_for_no_database(surveys: VotingSurveys, cell: Cell) -> None:
    await asked(surveys, cell)
    cell.row["finish_at"] = LATER
    for _ in range(8):
        cell.now += 0.5
        assert surveys.peek(cell.survey.id) is not None
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert (await asked(surveys, cell)).window.finish_at == LATER


async def test_without_a_database_what_was_known_is_believed(surveys: VotingSurveys, cell: Cell) -> None:
    known = await asked(surveys, cell)
    cell.failure = asyncpg.PostgresConnectionError()
    cell.now += 3600
    assert await asked(surveys, cell) is known
    assert surveys.peek(cell.survey.id) is known  # and the next ones do not wait for it
    cell.failure = None
    cell.row["finish_at"] = LATER
    cell.now += 3600
    assert (await asked(surveys, cell)).window.finish_at == LATER


async def test_a_database_that_hangs_holds_up_the_first_vote_alone_and_not_for_long(
    surveys: VotingSurveys, cell: Cell
) -> None:
    known = await asked(surveys, cell)
    cell.is_answering.clear()
    cell.now += 3600
    async with asyncio.timeout(2):
        assert await asked(surveys, cell) is known
    assert surveys.peek(cell.survey.id) is known
    cell.is_answering.set()


async def test_whoever_records_takes_what_is_there_at_once(surveys: VotingSurveys, cell: Cell) -> None:
    await asked(surveys, cell)
    cell.is_answering.clear()
    cell.now += 3600
    boxes, failures = await asyncio.wait_for(surveys.boxes({cell.survey.id}), 0.2)
    assert (list(boxes), failures) == ([cell.survey.id], {})
    cell.is_answering.set()


async def test_the_key_leaves_the_process_at_the_end_of_a_retention(surveys: VotingSurveys, cell: Cell) -> None:
    await asked(surveys, cell)
    cell.row["wrapped_ballot_key"] = None
    cell.now += 3600
    assert await surveys.get(cell.survey.id) is None
    assert not surveys.knows(cell.survey.id)
    assert await surveys.boxes({cell.survey.id}) == ({}, {})


async def test_to_know_a_survey_asks_nothing(surveys: VotingSurveys, cell: Cell) -> None:
    assert not surveys.knows(cell.survey.id)
    await asked(surveys, cell)
    cell.now += 3600
    assert surveys.knows(cell.survey.id)
    assert cell.reads == 1
