"""How one request changes a whole survey: ids that are present update, absent ones create, omitted ones delete."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Protocol, TypeVar

from domain.contracts.surveys import Option, Question, Survey, SurveyStage, Visibility
from domain.errors import DomainError, ErrorCode
from domain.survey_corrections import CorrectedText
from domain.surveys import check_correction, check_survey


class Keep(Enum):
    """Stands for a property that the request leaves out: it keeps its value, or gets its default when new."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Counters:
    """The highest ids ever given out in a survey, so that none is used again after a deletion."""

    question: int = 0
    option: int = 0


@dataclass(frozen=True, slots=True)
class OptionDraft:
    """An option as wanted; without `id` it is new."""

    text: str
    id: str | None = None
    order: int | Keep = KEEP
    image: str | Keep | None = KEEP


@dataclass(frozen=True, slots=True)
class QuestionDraft:
    """A question as wanted, with all its options; without `id` it is new."""

    title: str
    min: int
    max: int
    options: tuple[OptionDraft, ...]
    id: str | None = None
    order: int | Keep = KEEP
    description: str | Keep | None = KEEP
    text_max: int | Keep = KEEP


@dataclass(frozen=True, slots=True)
class SurveyDraft:
    """A survey as wanted, with all its questions."""

    title: str
    questions: tuple[QuestionDraft, ...]
    regions: tuple[str, ...] | Keep = KEEP
    minimum_age: int | Keep = KEEP
    roll_required: bool | Keep = KEEP
    visibility: Visibility | Keep = KEEP
    minimum_step: int | Keep = KEEP
    start_at: datetime | Keep | None = KEEP
    finish_at: datetime | Keep | None = KEEP


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A survey as the catalogue has it.

    `published_from` and `finished_from` are the versions that those two requests found, so that the same request can
    be answered again.
    """

    survey: Survey
    stage: SurveyStage
    counters: Counters
    published_from: int | None = None
    finished_from: int | None = None
    is_paused: bool = False
    corrections: tuple[CorrectedText, ...] = ()  # since it was published, the oldest first


def new_entry(survey_id: str, draft: SurveyDraft) -> CatalogueEntry:
    """Return the first version of a survey.

    Raises:
        DomainError: `survey_invalid`.
    """
    empty = Survey(id=survey_id, title="", questions=(), version=0)
    return amended(CatalogueEntry(empty, SurveyStage.DRAFT, Counters()), draft)


def amended(entry: CatalogueEntry, draft: SurveyDraft) -> CatalogueEntry:
    """Return the next version of a survey: anything for a draft, corrected texts for a published one.

    Raises:
        DomainError: `survey_invalid` (also for an id that the survey does not have), `survey_frozen`.
    """
    survey, counters = _apply(entry.survey, entry.counters, draft)
    if entry.stage is SurveyStage.DRAFT:
        check_survey(survey)
    elif entry.stage is SurveyStage.PUBLISHED:
        check_correction(entry.survey, survey)
    else:
        raise DomainError(ErrorCode.SURVEY_FROZEN, f"the survey is {entry.stage}")
    return replace(entry, survey=survey, counters=counters)


def _apply(current: Survey, counters: Counters, draft: SurveyDraft) -> tuple[Survey, Counters]:
    known = {question.id: question for question in current.questions}
    _require_known("questions", draft.questions, known)
    question_ids = _ids(counters.question)
    option_ids = _ids(counters.option)
    # Options of new questions are numbered before those that join a known question.
    created = [_new_question(next(question_ids), q, n, option_ids) for n, q in enumerate(draft.questions) if not q.id]
    fresh = iter(created)
    questions = tuple(
        _changed_question(known[question.id], question, place, option_ids) if question.id else next(fresh)
        for place, question in enumerate(draft.questions)
    )
    survey = Survey(
        id=current.id,
        title=draft.title,
        questions=tuple(sorted(questions, key=_place)),
        regions=_kept(draft.regions, current.regions),
        minimum_age=_kept(draft.minimum_age, current.minimum_age),
        roll_required=_kept(draft.roll_required, current.roll_required),
        visibility=_kept(draft.visibility, current.visibility),
        minimum_step=_kept(draft.minimum_step, current.minimum_step),
        start_at=_kept(draft.start_at, current.start_at),
        finish_at=_kept(draft.finish_at, current.finish_at),
        version=current.version + 1,
    )
    return survey, Counters(next(question_ids) - 1, next(option_ids) - 1)


def _new_question(number: int, draft: QuestionDraft, place: int, option_ids: Iterator[int]) -> Question:
    empty = Question(id=str(number), title="", min=0, max=0, order=place, options=())
    return _changed_question(empty, draft, place, option_ids)


def _changed_question(current: Question, draft: QuestionDraft, place: int, option_ids: Iterator[int]) -> Question:
    known = {option.id: option for option in current.options}
    _require_known(f"questions[{place}].options", draft.options, known)
    options = (
        _changed_option(known[option.id] if option.id else Option(id=str(next(option_ids)), text="", order=n), option)
        for n, option in enumerate(draft.options)
    )
    return Question(
        id=current.id,
        title=draft.title,
        min=draft.min,
        max=draft.max,
        order=_kept(draft.order, current.order),
        options=tuple(sorted(options, key=_place)),
        description=_kept(draft.description, current.description),
        text_max=_kept(draft.text_max, current.text_max),
    )


def _changed_option(current: Option, draft: OptionDraft) -> Option:
    return Option(
        id=current.id,
        text=draft.text,
        image=_kept(draft.image, current.image),
        order=_kept(draft.order, current.order),
    )


class _Numbered(Protocol):
    @property
    def id(self) -> str | None: ...


def _require_known(place: str, drafts: Sequence[_Numbered], known: dict[str, Question] | dict[str, Option]) -> None:
    named = [draft.id for draft in drafts if draft.id is not None]
    if any(name not in known for name in named):
        raise DomainError(ErrorCode.SURVEY_INVALID, f"{place}: an id that is not there")
    if len(set(named)) != len(named):
        raise DomainError(ErrorCode.SURVEY_INVALID, f"{place}: an id twice")


def _ids(last: int) -> Iterator[int]:
    while True:
        last += 1
        yield last


def _place(item: Question | Option) -> tuple[int, int]:
    return (item.order, int(item.id))


T = TypeVar("T")


def _kept(wanted: T | Keep, current: T) -> T:
    return current if isinstance(wanted, Keep) else wanted
