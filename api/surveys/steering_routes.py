"""What staff do with an open survey: no votes for the moment, votes again, a later end."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.surveys.bodies import SurveyWindowBody
from api.surveys.certification_bodies import ExtendRequest
from api.surveys.management import SurveyManagement
from api.surveys.staff_routes import IfMatch
from api.surveys.versions import Precondition, entity_tag
from domain.errors import ErrorCode
from domain.survey_drafts import CatalogueEntry

_STEERED = (
    ErrorCode.SURVEY_NOT_FOUND,
    ErrorCode.PRECONDITION_FAILED,
    ErrorCode.SURVEY_NOT_OPEN,
    ErrorCode.SURVEY_CLOSED,
    ErrorCode.SURVEY_PUBLISHING,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.CATALOGUE_UNAVAILABLE,
)


def steering_routes(management: SurveyManagement, admin: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """Return the routes; `admin` lets in who may manage surveys."""
    router = APIRouter(prefix="/v1/internal/surveys", tags=["Survey management"], responses={**STAFF_RESPONSES})
    Admin = Annotated[Principal, Depends(admin)]  # noqa: N806 - a type
    steered = problem_responses(*_STEERED)

    @router.put("/{survey_id}/pause", summary="Take no votes for the moment", responses=steered)
    async def pause_survey(
        survey_id: str, staff: Admin, response: Response, if_match: IfMatch = None
    ) -> SurveyWindowBody:
        """Refuse new votes with `survey_paused` in every cell, within a second or two; accepted ones are recorded.

        The end stays where it is. 503 `survey_publishing` says that a cell cannot be reached; it goes on by itself.
        """
        entry = await management.set_intake(survey_id, staff.actor, Precondition(if_match), paused=True)
        return _body(entry, response)

    @router.put("/{survey_id}/resume", summary="Take votes again", responses=steered)
    async def resume_survey(
        survey_id: str, staff: Admin, response: Response, if_match: IfMatch = None
    ) -> SurveyWindowBody:
        """End a pause in every cell."""
        entry = await management.set_intake(survey_id, staff.actor, Precondition(if_match), paused=False)
        return _body(entry, response)

    @router.put(
        "/{survey_id}/extend",
        summary="Move the end to a later instant",
        responses=problem_responses(*_STEERED, ErrorCode.SURVEY_INVALID),
    )
    async def extend_survey(
        survey_id: str, request: ExtendRequest, staff: Admin, response: Response, if_match: IfMatch = None
    ) -> SurveyWindowBody:
        """Extend an open survey that has an end, in every cell; `survey_closed` once that has come, or nearly.

        A cell that cannot be reached before its earlier end closes then, as its certificate will say.
        """
        entry = await management.extend(survey_id, staff.actor, Precondition(if_match), request.finish_date)
        return _body(entry, response)

    return router


def _body(entry: CatalogueEntry, response: Response) -> SurveyWindowBody:
    response.headers["ETag"] = entity_tag(entry.survey.version)
    return SurveyWindowBody.of(entry)
