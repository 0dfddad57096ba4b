"""Results as everyone sees them: who may, and the one document of the results call and of the stream."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from domain.contracts.surveys import Question, Survey, Visibility
from domain.errors import DomainError, ErrorCode
from domain.tally import BALLOTS, Counts, MergedTotals

_REGION_MAX = 64  # characters, as in the ledger


@dataclass(frozen=True, slots=True)
class PublishedSurvey:
    """A survey as the cells have it, and whether it is closed in every one of them."""

    survey: Survey
    is_closed: bool


def check_visible(published: PublishedSurvey) -> None:
    """Let everyone see the results, or not.

    Raises:
        DomainError: `results_not_visible`.
    """
    visibility = published.survey.visibility
    if visibility is Visibility.LIVE or (visibility is Visibility.AFTER_CLOSE and published.is_closed):
        return
    raise DomainError(ErrorCode.RESULTS_NOT_VISIBLE)


def check_streamable(published: PublishedSurvey) -> None:
    """Let everyone watch the results live, or not; what is shown after the end has no stream.

    Raises:
        DomainError: `results_not_visible`.
    """
    if published.survey.visibility is not Visibility.LIVE:
        raise DomainError(ErrorCode.RESULTS_NOT_VISIBLE)


@dataclass(frozen=True, slots=True)
class Filter:
    """Narrows results to ballots of some regions and to some options; empty means all."""

    regions: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()

    @classmethod
    def of(cls, regions: Iterable[str], options: Iterable[str]) -> "Filter":
        """Return the filter of repeated parameters."""
        return cls(frozenset(regions), frozenset(options))

    def check(self, survey: Survey) -> None:
        """Refuse what the survey does not have; a survey for every region takes any well-formed one.

        Raises:
            DomainError: `region_unknown`, `option_unknown`.
        """
        for region in self.regions:
            if not 0 < len(region) <= _REGION_MAX or (survey.regions and region not in survey.regions):
                raise DomainError(ErrorCode.REGION_UNKNOWN)
        known = {option.id for question in survey.questions for option in question.options}
        if not self.options <= known:
            raise DomainError(ErrorCode.OPTION_UNKNOWN)


EVERYTHING = Filter()


def results_document(survey: Survey, totals: MergedTotals, narrowed: Filter = EVERYTHING) -> dict[str, Any]:
    """Return the document: every option of the survey in its order, also those without a vote.

    `totalResponses` counts ballots of the chosen regions. Where options are chosen, only they are listed, and only
    the questions that have one of them.
    """
    votes = _by_option(totals.counts, narrowed.regions)
    questions = [_question(question, votes, narrowed.options) for question in _ordered(survey.questions)]
    certified = {} if totals.certificate_id is None else {"certificateId": totals.certificate_id}
    return {
        "survey": {"id": survey.id, "title": survey.title},
        "totalResponses": votes.get(BALLOTS, 0),
        "questions": [question for question in questions if question["options"] or not narrowed.options],
        "asOf": _rfc3339(totals.as_of),
        "missingCells": list(totals.missing_cells),
        **certified,
    }


def _by_option(counts: Counts, regions: Collection[str]) -> dict[str, int]:
    votes: dict[str, int] = {}
    for (region, option), number in counts.items():
        if not regions or region in regions:
            votes[option] = votes.get(option, 0) + number
    return votes


def _question(question: Question, votes: dict[str, int], options: Collection[str]) -> dict[str, Any]:
    return {
        "id": question.id,
        "title": question.title,
        "order": question.order,
        "options": [
            {
                "id": option.id,
                "text": option.text,
                "image": option.image,
                "order": option.order,
                "votes": votes.get(option.id, 0),
            }
            for option in sorted(question.options, key=lambda option: option.order)
            if not options or option.id in options
        ],
    }


def _ordered(questions: tuple[Question, ...]) -> list[Question]:
    return sorted(questions, key=lambda question: question.order)


def _rfc3339(instant: datetime | None) -> str | None:
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
