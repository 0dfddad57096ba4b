"""What makes a survey valid, and what may still change once voters have seen it."""

import hashlib
import json
import re
import unicodedata
from urllib.parse import urlsplit

from domain.ballots import PACKED_BYTES_MAX, packed_bytes
from domain.contracts.surveys import Option, Question, Survey
from domain.errors import DomainError, ErrorCode

QUESTIONS_MAX = 50
OPTIONS_MAX = 500  # of one question
TITLE_MAX = 300  # characters, as all limits of texts
DESCRIPTION_MAX = 2000
OPTION_TEXT_MAX = 500
IMAGE_MAX = 2048
ANSWER_TEXT_MAX = 900
ORDER_MAX = 9999
REGIONS_MAX = 1000
MINIMUM_STEP_MAX = 1_000_000
MINIMUM_AGES = (0, 16, 18)
DEFINITION_BYTES_MAX = 512 * 1024  # travels through workflows, caches and events as one piece
REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_LINE_BREAKS = frozenset("\n\t")


def check_survey(survey: Survey) -> None:
    """Accept a survey or raise DomainError `survey_invalid` naming the first place that breaks a rule."""
    _check_text("title", survey.title, TITLE_MAX)
    _refuse_unless(1 <= len(survey.questions) <= QUESTIONS_MAX, "questions", f"1 to {QUESTIONS_MAX} questions")
    for place, question in enumerate(survey.questions):
        _check_question(f"questions[{place}]", question)
    _check_audience(survey)
    if survey.start_at is not None and survey.finish_at is not None:
        _refuse_unless(survey.start_at < survey.finish_at, "finishDate", "must be after startDate")
    _refuse_unless(packed_bytes(survey) <= PACKED_BYTES_MAX, "questions", "the longest ballot would exceed 4 KiB")
    size = len(survey.model_dump_json())
    _refuse_unless(size <= DEFINITION_BYTES_MAX, "questions", f"the survey exceeds {DEFINITION_BYTES_MAX} bytes")


def check_correction(current: Survey, corrected: Survey) -> None:
    """Accept a change of texts and images alone; voters have seen everything else.

    Raises:
        DomainError: `survey_frozen`, or `survey_invalid` where a new text breaks a rule.
    """
    if _without_texts(current) != _without_texts(corrected):
        raise DomainError(ErrorCode.SURVEY_FROZEN, "only titles, descriptions, texts and images can be corrected now")
    check_survey(corrected)


def definition_digest(survey: Survey) -> bytes:
    """Return the SHA-256 of a survey's definition as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(survey.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def _without_texts(survey: Survey) -> Survey:
    questions = tuple(
        question.model_copy(
            update={
                "title": "",
                "description": None,
                "options": tuple(option.model_copy(update={"text": "", "image": None}) for option in question.options),
            }
        )
        for question in survey.questions
    )
    return survey.model_copy(update={"title": "", "version": 0, "questions": questions})


def _check_question(place: str, question: Question) -> None:
    _check_text(f"{place}.title", question.title, TITLE_MAX)
    if question.description is not None:
        _check_text(f"{place}.description", question.description, DESCRIPTION_MAX, breaks=True)
    _check_order(place, question.order)
    count = len(question.options)
    _refuse_unless(count <= OPTIONS_MAX, f"{place}.options", f"at most {OPTIONS_MAX} options")
    _refuse_unless(0 <= question.text_max <= ANSWER_TEXT_MAX, f"{place}.textMax", f"0 to {ANSWER_TEXT_MAX}")
    _refuse_unless(0 <= question.min <= question.max, f"{place}.min", "0 to max")
    _refuse_unless(question.max <= count, f"{place}.max", "at most the number of options")
    _refuse_unless(question.max >= 1 or question.text_max > 0, f"{place}.max", "1 or more where no text is taken")
    for number, option in enumerate(question.options):
        _check_option(f"{place}.options[{number}]", option)


def _check_option(place: str, option: Option) -> None:
    _check_text(f"{place}.text", option.text, OPTION_TEXT_MAX)
    _check_order(place, option.order)
    if option.image is not None:
        _refuse_unless(_is_image_address(option.image), f"{place}.image", "an https address")


def _check_audience(survey: Survey) -> None:
    _refuse_unless(len(survey.regions) <= REGIONS_MAX, "regions", f"at most {REGIONS_MAX} regions")
    _refuse_unless(len(set(survey.regions)) == len(survey.regions), "regions", "no region twice")
    for region in survey.regions:
        _refuse_unless(REGION.fullmatch(region) is not None, "regions", "letters, digits and . _ - only")
    _refuse_unless(survey.minimum_age in MINIMUM_AGES, "minimumAge", "0, 16 or 18")
    _refuse_unless(1 <= survey.minimum_step <= MINIMUM_STEP_MAX, "minimumStep", f"1 to {MINIMUM_STEP_MAX}")


def _check_text(place: str, text: str, longest: int, *, breaks: bool = False) -> None:
    _refuse_unless(bool(text.strip()) and len(text) <= longest, place, f"1 to {longest} characters")
    allowed = _LINE_BREAKS if breaks else frozenset()
    # Control characters and lone surrogates (category C, less formats such as the joiners that scripts need)
    readable = all(unicodedata.category(c) not in ("Cc", "Cs", "Cn") or c in allowed for c in text)
    _refuse_unless(readable, place, "readable characters only")


def _check_order(place: str, order: int) -> None:
    _refuse_unless(0 <= order <= ORDER_MAX, f"{place}.order", f"0 to {ORDER_MAX}")


def _is_image_address(address: str) -> bool:
    if len(address) > IMAGE_MAX or not address.isascii() or not address.isprintable() or " " in address:
        return False
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


def _refuse_unless(accepted: bool, place: str, rule: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not accepted:
        raise DomainError(ErrorCode.SURVEY_INVALID, f"{place}: {rule}")
