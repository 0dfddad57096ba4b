"""When a survey is over for those who may see its results only then: when no cell can still take a vote for it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from domain.contracts.surveys import Visibility
from domain.errors import DomainError, ErrorCode
from domain.tally import MergedTotals
from integrations.postgres.survey_copies import SurveyCopies, SurveyCopy
from integrations.results import published
from integrations.results.published import PublishedSurveys
from tests.voting_world import small_survey

PAST = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
SURVEY = small_survey(visibility=Visibility.AFTER_CLOSE)


class Cell(SurveyCopies):
    """A cell's copies, or one that does not answer."""

    def __init__(self, finish_at: datetime | None, *, away: bool = False, now: datetime = NOW) -> None:
        self.copy: SurveyCopy | None = SurveyCopy(SURVEY, finish_at, now, 0)
        self.away = away

    def wait_until(self, now: datetime) -> None:
        """Let its clock go on."""
        assert self.copy is not None
        self.copy = replace(self.copy, asked_at=now)

    async def get(self, survey_id: str) -> SurveyCopy | None:
        if self.away:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE)
        return self.copy


async def closed(surveys: PublishedSurveys) -> bool:
    for kept in surveys._kept.values():
        kept.read_at = -published._FRESH_S  # ask the cells again
    return (await surveys.get(SURVEY.id)).published.is_closed


async def test_a_cell_that_never_answered_may_still_take_votes() -> None:
    silent = Cell(PAST, away=True)
    surveys = PublishedSurveys({"eu": Cell(PAST), "us": silent})
    assert not await closed(surveys)
    silent.away = False
    assert await closed(surveys)


async def test_a_certificate_says_it_for_every_cell() -> None:
    cell = Cell(PAST)
    assert cell.copy is not None
    cell.copy = replace(cell.copy, certified=MergedTotals({}, {}))
    assert await closed(PublishedSurveys({"eu": cell, "us": Cell(PAST, away=True)}))


async def test_a_cell_that_went_away_is_closed_if_it_was() -> None:
    cell = Cell(PAST)
    surveys = PublishedSurveys({"eu": Cell(PAST), "us": cell})
    assert await closed(surveys)
    cell.away = True
    assert await closed(surveys)


async def test_a_cell_that_went_away_open_is_open() -> None:
    cell = Cell(None)
    surveys = PublishedSurveys({"eu": Cell(PAST), "us": cell})
    assert not await closed(surveys)
    cell.away = True
    assert not await closed(surveys)


async def test_a_cell_without_the_survey_takes_no_votes_for_it() -> None:
    cell = Cell(None)
    cell.copy = None
    assert await closed(PublishedSurveys({"eu": Cell(PAST), "us": cell}))


async def test_each_cells_end_is_by_its_own_clock_whatever_this_process_has() -> None:
    eu, us = Cell(SOON), Cell(SOON)  # long ago by the clock of this process
    surveys = PublishedSurveys({"eu": eu, "us": us})
    assert not await closed(surveys)
    eu.wait_until(SOON)
    assert not await closed(surveys)
    us.wait_until(SOON)
    assert await closed(surveys)


async def test_an_end_that_passes_while_its_cell_is_away_is_by_the_slowest_of_the_others() -> None:
    eu, us, gone = Cell(SOON), Cell(SOON), Cell(SOON)
    surveys = PublishedSurveys({"eu": eu, "us": us, "gone": gone})
    assert not await closed(surveys)
    gone.away = True
    eu.wait_until(SOON)
    assert not await closed(surveys)
    us.wait_until(SOON)
    assert await closed(surveys)


async def test_where_no_cell_answers_nobody_says_that_it_is_over() -> None:
    cell = Cell(SOON)
    surveys = PublishedSurveys({"eu": cell})
    assert not await closed(surveys)
    cell.wait_until(SOON)
    cell.away = True
    assert not await closed(surveys)
