"""A survey as every service knows it: the catalogue's, the cells' copies and the histories' form."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract


class Visibility(StrEnum):
    """Who may see results, and when."""

    LIVE = "live"
    AFTER_CLOSE = "after_close"
    STAFF = "staff"


class SurveyStage(StrEnum):
    """How far a survey is; only drafts change freely, and only published and finished ones are public."""

    DRAFT = "draft"
    PUBLISHING = "publishing"  # frozen, on its way into the cells
    PUBLISHED = "published"  # every cell has it and its window
    FINISHED = "finished"


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
    start_at <= accepted < finish_at. `version` rises with every change in the catalogue.
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
    version: int = 0


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


class FinishSurvey(Contract):
    """Who ends the survey, and the version that they saw; None ends it whatever its version."""

    actor: str
    expected_version: int | None = None


class SteerIntake(Contract):
    """Who pauses or resumes the taking of votes, and the version that they saw; None takes any."""

    actor: str
    paused: bool
    expected_version: int | None = None


class SurveyIntake(Contract):
    """Whether a cell takes votes of a survey now; `cell` is empty where the catalogue is meant."""

    survey_id: str
    paused: bool
    cell: str = ""
    actor: str = ""


class ExtendSurvey(Contract):
    """Who moves the end of an open survey to a later instant, and the version that they saw; None takes any."""

    actor: str
    finish_at: datetime
    expected_version: int | None = None


class ExtendSurveyInput(Contract):
    """A later end that every cell has; recorded in the catalogue last. Repeated, the same survey comes back."""

    survey_id: str
    actor: str
    finish_at: datetime


class FreezeSurveyInput(Contract):
    """Freezes a draft; repeated, the same survey comes back."""

    survey_id: str
    actor: str
    at: datetime
    expected_version: int | None = None


class SurveyReference(Contract):
    """Names a survey."""

    survey_id: str


class SurveyKeys(Contract):
    """The two data keys of a survey, wrapped; never anything else in a history."""

    survey_id: str
    wrapped_ballot_key: bytes
    wrapped_eligibility_key: bytes


class OpenSurveyInput(Contract):
    """The window that every cell has; recorded in the catalogue last."""

    survey_id: str
    start_at: datetime
    finish_at: datetime | None = None


class FinishSurveyInput(Contract):
    """The end that every cell has; `actor` is empty where the end was scheduled."""

    survey_id: str
    start_at: datetime
    finish_at: datetime
    actor: str = ""


class CorrectSurveyInput(Contract):
    """A published survey with texts corrected, made from version `expected_version`."""

    survey: Survey
    actor: str
    expected_version: int


class OpenedSurvey(Contract):
    """A survey with its window and its keys as every cell has them."""

    survey: Survey
    keys: SurveyKeys


class SurveyChanged(Contract):
    """What a consumer of `surveys.changed.v1` learns, and what whoever asked for the change is answered."""

    survey_id: str
    version: int
    stage: SurveyStage
    start_at: datetime | None = None
    finish_at: datetime | None = None


class AnnounceSurveyInput(Contract):
    """A change to tell one cell."""

    cell: str
    change: SurveyChanged
