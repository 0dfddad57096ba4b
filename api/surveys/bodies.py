"""The bodies of the survey calls. Optional properties show only where they are not at their default."""

from collections.abc import Iterable

from pydantic import Field, JsonValue

from api.http.models import ApiModel, Timestamp
from domain import surveys as rules
from domain.contracts.surveys import Option, Question, Survey, Visibility
from domain.survey_corrections import CorrectedText, TextField
from domain.survey_drafts import KEEP, CatalogueEntry, OptionDraft, QuestionDraft, SurveyDraft
from domain.survey_ports import Listing

_KEEPS = "Left out, it keeps its value, or gets its default when new."


def _text(longest: int) -> dict[str, JsonValue]:
    """Say a rule of the domain in the document too; the domain refuses with a better error than a schema can."""
    return {"minLength": 1, "maxLength": longest}


def _number(least: int, most: int) -> dict[str, JsonValue]:
    return {"minimum": least, "maximum": most}


def _list(least: int, most: int) -> dict[str, JsonValue]:
    return {"minItems": least, "maxItems": most}


class OptionRequest(ApiModel):
    """An option as wanted. With `id` it updates that option, without it is new."""

    id: str | None = None
    text: str = Field(json_schema_extra=_text(rules.OPTION_TEXT_MAX))
    image: str | None = Field(default=None, description=f"An https address. {_KEEPS}")
    order: int | None = Field(default=None, description=f"Where it stands; at first its place in the list. {_KEEPS}")

    def draft(self) -> OptionDraft:
        """Return it as the rules take it."""
        return OptionDraft(
            id=self.id,
            text=self.text,
            order=KEEP if self.order is None else self.order,
            image=self.image if "image" in self.model_fields_set else KEEP,
        )


class QuestionRequest(ApiModel):
    """A question as wanted, with all its options: one that is left out is deleted."""

    id: str | None = None
    title: str = Field(json_schema_extra=_text(rules.TITLE_MAX))
    min: int = Field(
        description="The fewest options that an answer may choose.",
        json_schema_extra=_number(0, rules.OPTIONS_MAX),
    )
    max: int = Field(
        description="The most options that an answer may choose; at most as many as there are.",
        json_schema_extra=_number(0, rules.OPTIONS_MAX),
    )
    order: int | None = Field(default=None, description=f"Where it stands; at first its place in the list. {_KEEPS}")
    options: tuple[OptionRequest, ...] = Field(strict=False, json_schema_extra=_list(0, rules.OPTIONS_MAX))
    description: str | None = Field(default=None, description=_KEEPS)
    text_max: int | None = Field(default=None, description=f"Characters of free text; 0 takes none. {_KEEPS}")

    def draft(self) -> QuestionDraft:
        """Return it as the rules take it."""
        return QuestionDraft(
            id=self.id,
            title=self.title,
            min=self.min,
            max=self.max,
            options=tuple(option.draft() for option in self.options),
            order=KEEP if self.order is None else self.order,
            description=self.description if "description" in self.model_fields_set else KEEP,
            text_max=KEEP if self.text_max is None else self.text_max,
        )


class SurveyRequest(ApiModel):
    """A survey as wanted, with all its questions: one that is left out is deleted."""

    title: str = Field(json_schema_extra=_text(rules.TITLE_MAX))
    questions: tuple[QuestionRequest, ...] = Field(strict=False, json_schema_extra=_list(1, rules.QUESTIONS_MAX))
    regions: tuple[str, ...] | None = Field(
        default=None, strict=False, description=f"Who may vote; empty means every region. {_KEEPS}"
    )
    minimum_age: int | None = Field(default=None, description=f"0, 16 or 18 years. {_KEEPS}")
    roll_required: bool | None = Field(default=None, description=f"Only voters on the survey's roll. {_KEEPS}")
    visibility: Visibility | None = Field(default=None, strict=False, description=f"Of results. {_KEEPS}")
    minimum_step: int | None = Field(default=None, description=f"Least new votes that move a live result. {_KEEPS}")
    start_date: Timestamp | None = Field(default=None, description=f"Opens then, not at once. {_KEEPS}")
    finish_date: Timestamp | None = Field(default=None, description=f"Closes then by itself. {_KEEPS}")

    def draft(self) -> SurveyDraft:
        """Return it as the rules take it."""
        return SurveyDraft(
            title=self.title,
            questions=tuple(question.draft() for question in self.questions),
            regions=KEEP if self.regions is None else self.regions,
            minimum_age=KEEP if self.minimum_age is None else self.minimum_age,
            roll_required=KEEP if self.roll_required is None else self.roll_required,
            visibility=KEEP if self.visibility is None else self.visibility,
            minimum_step=KEEP if self.minimum_step is None else self.minimum_step,
            start_at=self.start_date if "start_date" in self.model_fields_set else KEEP,
            finish_at=self.finish_date if "finish_date" in self.model_fields_set else KEEP,
        )


class OptionBody(ApiModel):
    """An option; its `id` is unique in the survey."""

    id: str
    text: str
    image: str | None
    order: int

    @classmethod
    def of(cls, option: Option) -> "OptionBody":
        """Return the body of an option."""
        return cls(id=option.id, text=option.text, image=option.image, order=option.order)


class QuestionBody(ApiModel):
    """A question; its `id` is unique in the survey."""

    id: str
    title: str
    description: str | None = Field(default=None, exclude_if=lambda value: value is None)
    min: int
    max: int
    text_max: int = Field(default=0, exclude_if=lambda value: value == 0)
    order: int
    options: tuple[OptionBody, ...]

    @classmethod
    def of(cls, question: Question) -> "QuestionBody":
        """Return the body of a question."""
        return cls(
            id=question.id,
            title=question.title,
            description=question.description,
            min=question.min,
            max=question.max,
            text_max=question.text_max,
            order=question.order,
            options=tuple(OptionBody.of(option) for option in question.options),
        )


class SurveyWindowBody(ApiModel):
    """A survey and when it takes votes."""

    id: str
    title: str
    start_date: Timestamp | None
    finish_date: Timestamp | None

    @classmethod
    def of(cls, entry: CatalogueEntry) -> "SurveyWindowBody":
        """Return the short body of a survey."""
        survey = entry.survey
        return cls(id=survey.id, title=survey.title, start_date=survey.start_at, finish_date=survey.finish_at)


class CorrectionBody(ApiModel):
    """A text or image that was corrected since the survey was published; null where there was or is none."""

    version: int = Field(description="Of the survey that the correction made.")
    corrected_at: Timestamp
    question: str | None = Field(description="Null for the title of the survey.")
    option: str | None = Field(description="Null for what is of the question, or of the survey.")
    field: TextField
    before: str | None
    after: str | None

    @classmethod
    def of(cls, corrected: CorrectedText) -> "CorrectionBody":
        """Return the body of a correction."""
        text = corrected.text
        return cls(
            version=corrected.version,
            corrected_at=corrected.corrected_at,
            question=text.question or None,
            option=text.option or None,
            field=text.field,
            before=text.before or None,
            after=text.after or None,
        )


class SurveyBody(ApiModel):
    """A survey with its questions and options, and with what they said before."""

    id: str
    title: str
    start_date: Timestamp | None
    finish_date: Timestamp | None
    questions: tuple[QuestionBody, ...]
    regions: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    minimum_age: int = Field(default=0, exclude_if=lambda value: value == 0)
    roll_required: bool = Field(default=False, exclude_if=lambda value: not value)
    visibility: Visibility = Field(default=Visibility.LIVE, exclude_if=lambda value: value is Visibility.LIVE)
    minimum_step: int = Field(default=1, exclude_if=lambda value: value == 1)
    corrections: tuple[CorrectionBody, ...] = Field(
        default=(),
        exclude_if=lambda value: not value,
        description="What was corrected since it was published, the oldest first: votes may be of before or after.",
    )

    @classmethod
    def of(cls, entry: CatalogueEntry) -> "SurveyBody":
        """Return the body of a survey."""
        survey: Survey = entry.survey
        return cls(
            id=survey.id,
            title=survey.title,
            start_date=survey.start_at,
            finish_date=survey.finish_at,
            questions=tuple(QuestionBody.of(question) for question in survey.questions),
            regions=survey.regions,
            minimum_age=survey.minimum_age,
            roll_required=survey.roll_required,
            visibility=survey.visibility,
            minimum_step=survey.minimum_step,
            corrections=tuple(CorrectionBody.of(correction) for correction in entry.corrections),
        )


class SurveyPage(ApiModel):
    """One page of public surveys, newest first; `nextCursor` is there while there are more."""

    surveys: tuple[SurveyWindowBody, ...]
    next_cursor: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @classmethod
    def of(cls, listings: Iterable[Listing], next_cursor: str | None) -> "SurveyPage":
        """Return a page."""
        return cls(
            surveys=tuple(
                SurveyWindowBody(
                    id=item.survey_id, title=item.title, start_date=item.start_at, finish_date=item.finish_at
                )
                for item in listings
            ),
            next_cursor=next_cursor,
        )


class StaffSurvey(SurveyWindowBody):
    """A survey of any stage in a list for staff."""

    stage: str


class StaffSurveyPage(ApiModel):
    """One page of all surveys, newest first; `nextCursor` is there while there are more."""

    surveys: tuple[StaffSurvey, ...]
    next_cursor: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @classmethod
    def of(cls, listings: Iterable[Listing], next_cursor: str | None) -> "StaffSurveyPage":
        """Return a page."""
        return cls(
            surveys=tuple(
                StaffSurvey(
                    id=item.survey_id,
                    title=item.title,
                    start_date=item.start_at,
                    finish_date=item.finish_at,
                    stage=item.stage.value,
                )
                for item in listings
            ),
            next_cursor=next_cursor,
        )
