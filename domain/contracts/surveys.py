"""A survey as every service knows it: the catalogue's, the cells' copies and the histories' form."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract


class Visibility(StrEnum):
    """Who may see results, and when."""

    LIVE = "live"
    AFTER_CLOSE = "after_close"
    STAFF = "staff"


class Option(Contract):
    """One choice; `id` is unique inside the survey and never used again after a deletion."""

    id: str
    text: str
    image: str | None = None
    order: int = 0


class Question(Contract):
    """Between `min` and `max` options may be chosen; text is taken only where `text_max` is over 0 (characters)."""

    id: str
    title: str
    min: int
    max: int
    order: int
    options: tuple[Option, ...]
    description: str | None = None
    text_max: int = 0


class Survey(Contract):
    """A survey and who it is for.

    `regions` empty means every region. `minimum_age` is 0, 16 or 18 years. `minimum_step` is the least number of
    new votes by which a live result moves. `start_at` and `finish_at` are UTC; a vote counts when
    start_at <= accepted < finish_at.
    """

    id: str
    title: str
    questions: tuple[Question, ...]
    regions: tuple[str, ...] = ()
    minimum_age: int = 0
    roll_required: bool = False
    visibility: Visibility = Visibility.LIVE
    minimum_step: int = 1
    start_at: datetime | None = None
    finish_at: datetime | None = None


class InstallSurveyInput(Contract):
    """A published survey for one cell, with its two data keys as wrapped by the key-encryption keys."""

    cell: str
    survey: Survey
    wrapped_ballot_key: bytes
    wrapped_eligibility_key: bytes


class SurveyWindow(Contract):
    """The window of a survey in one cell."""

    cell: str
    survey_id: str
    start_at: datetime | None = None
    finish_at: datetime | None = None
