"""Puts the election up as a survey, through the calls that staff use."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from comitia.demo.client import Answer, HttpClient
from comitia.demo.glasgow import Ballot, Election

_SURVEYS = "/v1/internal/surveys"
_PUBLISHED_WITHIN_S = 60.0


class RefusedError(RuntimeError):
    """A call that has to succeed did not."""


@dataclass(frozen=True, slots=True)
class PublishedElection:
    """The open survey; `options` has, per question, the id of each party's option."""

    survey_id: str
    questions: tuple[str, ...]
    options: tuple[dict[str, str], ...]

    @property
    def vote_path(self) -> str:
        """Where votes go."""
        return f"/v1/surveys/{self.survey_id}/vote"

    @property
    def token_path(self) -> str:
        """Where voting tokens are had."""
        return f"/v1/surveys/{self.survey_id}/voting-token"

    @property
    def results_path(self) -> str:
        """Where the totals are."""
        return f"/v1/surveys/{self.survey_id}/results"

    def answers(self, ballot: Ballot) -> dict[str, object]:
        """Return a paper as the body of a vote."""
        return self._body([ballot.first], ballot.others)

    def other_answers(self, ballot: Ballot) -> dict[str, object]:
        """Return a body that says something else than this paper."""
        return self._body([next(party for party in self.options[0] if party != ballot.first)], ())

    def _body(self, first: Sequence[str], others: Sequence[str]) -> dict[str, object]:
        chosen = zip(self.questions, self.options, (first, others), strict=True)
        return {
            "answers": [
                {"question": question, "options": [options[party] for party in parties]}
                for question, options, parties in chosen
            ]
        }


async def publish(surveys: HttpClient, staff_token: str, election: Election) -> PublishedElection:
    """Create the survey and publish it; it is open in every cell then.

    Raises:
        RefusedError: a call was refused, or not every cell could be reached within a minute.
    """
    created = _expect(
        HTTPStatus.CREATED, await surveys.request("POST", _SURVEYS, token=staff_token, body=election.survey())
    )
    path = f"{_SURVEYS}/{created['id']}/publish"
    try:
        async with asyncio.timeout(_PUBLISHED_WITHIN_S):
            while True:
                answer = await surveys.request("PUT", path, token=staff_token)
                if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    break
                await asyncio.sleep(retry_after(answer))
    except TimeoutError:
        raise RefusedError("the survey was not published within a minute") from None
    _expect(HTTPStatus.OK, answer)
    questions = created["questions"]
    return PublishedElection(
        created["id"],
        tuple(question["id"] for question in questions),
        tuple({option["text"]: option["id"] for option in question["options"]} for question in questions),
    )


def retry_after(answer: Answer, default_s: float = 1.0) -> float:
    """Return how many seconds an answer asks to wait."""
    asked = answer.headers.get("retry-after", "")
    return float(asked) if asked.isdigit() else default_s


def problem_code(answer: Answer) -> str:
    """Return the code of a problem, or what stands in its place."""
    try:
        found = answer.json()
    except ValueError:
        return "no problem document"
    return str(found.get("code", "no code")) if isinstance(found, dict) else "no problem document"


def _expect(status: HTTPStatus, answer: Answer) -> dict[str, Any]:
    if answer.status != status:
        raise RefusedError(f"{answer.status} {problem_code(answer)} where {status.value} was due")
    found: dict[str, Any] = answer.json()
    return found
