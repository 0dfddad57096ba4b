"""Corrections of what voters may have read: each stays beside the survey with what it replaced, for everybody.

Nothing can compare meanings, so staff who correct `Yes` to `Nope` are not stopped by a rule but seen by every reader.
What a rule can tell is refused: an option gets no text or image that another one of its question has or had, since
whoever chose that one meant it.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.contracts.surveys import Question, Survey
from domain.errors import DomainError, ErrorCode

CORRECTED_MAX: Final = 500  # texts and images of one survey, since all of them are shown with it
_MEANT: Final = ("L", "M", "N", "S")  # categories of Unicode: letters, marks, numbers and symbols


class TextField(StrEnum):
    """What of a survey, a question or an option was corrected."""

    TITLE = "title"
    DESCRIPTION = "description"
    TEXT = "text"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class ReplacedText:
    """A text or image and what took its place; "" where there is none.

    `question` is "" for the title of the survey, `option` is "" for what is of a question itself.
    """

    question: str
    option: str
    field: TextField
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CorrectedText:
    """What was replaced, when, and by which version of the survey."""

    version: int
    corrected_at: datetime
    text: ReplacedText


def replaced_texts(before: Survey, after: Survey) -> tuple[ReplacedText, ...]:
    """Return what differs between two versions of a published survey, which have the same questions and options."""
    old, new = dict(_texts(before)), dict(_texts(after))
    return tuple(
        ReplacedText(*place, before=old[place], after=text) for place, text in new.items() if old[place] != text
    )


def check_replacements(before: Survey, earlier: Iterable[ReplacedText], now: Iterable[ReplacedText]) -> None:
    """Accept corrections `now` of a survey that had the corrections `earlier`.

    Raises:
        DomainError: `survey_frozen`; an option would say what another one says or said, or there were too many.
    """
    earlier, now = tuple(earlier), tuple(now)
    if len(earlier) + len(now) > CORRECTED_MAX:
        raise DomainError(ErrorCode.SURVEY_FROZEN, f"no more than {CORRECTED_MAX} texts of a survey can be corrected")
    said = {question.id: _said(question, earlier) for question in before.questions}
    for text in now:
        holders = said[text.question].get((text.field, _bare(text.after)), set()) if text.option else set()
        if text.after and holders - {text.option}:
            raise DomainError(
                ErrorCode.SURVEY_FROZEN, f"option {text.option}: another option of the question says or said this"
            )


def _said(question: Question, earlier: Iterable[ReplacedText]) -> Mapping[tuple[TextField, str], set[str]]:
    """Return which options of a question say or said what."""
    found: dict[tuple[TextField, str], set[str]] = {}
    for (_, option, field), text in _of_question(question):
        found.setdefault((field, _bare(text)), set()).add(option)
    for replaced in earlier:
        if replaced.question == question.id and replaced.option:
            for said in (replaced.before, replaced.after):
                found.setdefault((replaced.field, _bare(said)), set()).add(replaced.option)
    return found


def _bare(text: str) -> str:
    """Return what is left of a text without case, spaces and punctuation, or all of it where that is nothing."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c).startswith(_MEANT)) or folded


_Place = tuple[str, str, TextField]


def _texts(survey: Survey) -> Iterator[tuple[_Place, str]]:
    yield ("", "", TextField.TITLE), survey.title
    for question in survey.questions:
        yield from _of_question(question)


def _of_question(question: Question) -> Iterator[tuple[_Place, str]]:
    yield (question.id, "", TextField.TITLE), question.title
    yield (question.id, "", TextField.DESCRIPTION), question.description or ""
    for option in question.options:
        yield (question.id, option.id, TextField.TEXT), option.text
        yield (question.id, option.id, TextField.IMAGE), option.image or ""
