"""When a survey is over for those who may see its results only then: when no cell can still take a vote for it."""

from dataclasses import replace
from datetime import UTC, datetime

from domain.contracts.surveys import Survey, Visibility
from domain.errors import DomainError, ErrorCode
from domain.tally import MergedTotals
from integrations.postgres.survey_copies import SurveyCopies, SurveyCopy
from integrations.results import published
from integrations.results.published import PublishedSurveys
from tests.voting_world import small_survey

PAST = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SURVEY = small_survey(visibility=Visibility.AFTER_CLOSE)


class Cell(SurveyCopies):
    """A cell's copies, or one that does not answer."""

    def __init__(self, finish_at: datetime | None, *, away: bool = False) -> None:
        self.copy: SurveyCopy | None = _copy(SURVEY, finish_at)
        self.away = away

    async def get(self, survey_id: str) -> SurveyCopy | None:
        if self.away:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE)
        return self.copy


def _copy(survey: Survey, finish_at: datetime | None) -> SurveyCopy:
    return SurveyCopy(survey, PAST, finish_at, 0)


async def closed(surveys: PublishedSurveys) -> bool:
    for kept in surveys._kept.values():
        kept.read_at = -published._FRESH_S  # ask the cells again
    return (await surveys.get(SURVEY.id)).published.closed(NOW)


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
