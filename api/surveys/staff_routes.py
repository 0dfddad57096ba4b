"""The management calls: `/v1/internal/surveys`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.models import QueryText
from api.surveys.bodies import StaffSurveyPage, SurveyBody, SurveyRequest, SurveyWindowBody
from api.surveys.cursors import next_cursor, read_cursor
from api.surveys.management import SurveyManagement
from api.surveys.versions import Precondition, entity_tag
from domain.errors import ErrorCode
from domain.survey_ports import SurveyCatalogue

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="The version that the change is for; without it the last writer wins."),
]
Cursor = Annotated[QueryText | None, Query(description="`nextCursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100)]

_CHANGED = problem_responses(
    ErrorCode.SURVEY_NOT_FOUND,
    ErrorCode.PRECONDITION_FAILED,
    ErrorCode.SURVEY_FROZEN,
    ErrorCode.SURVEY_INVALID,
    ErrorCode.CATALOGUE_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.SURVEY_PUBLISHING,
)
_STEERED = problem_responses(
    ErrorCode.SURVEY_NOT_FOUND,
    ErrorCode.PRECONDITION_FAILED,
    ErrorCode.SURVEY_NOT_OPEN,
    ErrorCode.SURVEY_INVALID,
    ErrorCode.SURVEY_PUBLISHING,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.CATALOGUE_UNAVAILABLE,
)


def staff_routes(
    management: SurveyManagement, catalogue: SurveyCatalogue, admin: Callable[..., Awaitable[Principal]]
) -> APIRouter:
    """Return the routes; `admin` lets in who may manage surveys."""
    router = APIRouter(prefix="/v1/internal/surveys", tags=["Survey management"], responses={**STAFF_RESPONSES})
    Admin = Annotated[Principal, Depends(admin)]  # noqa: N806 - a type

    @router.post("", status_code=201, summary="Create a survey", responses=_CHANGED)
    async def create_survey(request: SurveyRequest, staff: Admin, response: Response) -> SurveyBody:
        """Create a draft; questions and options get their ids."""
        entry = await management.create(request.draft(), staff.actor)
        response.headers["ETag"] = entity_tag(entry.survey.version)
        response.headers["Location"] = f"/v1/internal/surveys/{entry.survey.id}"
        return SurveyBody.of(entry)

    @router.get("", summary="List surveys of every stage", responses=problem_responses(ErrorCode.CATALOGUE_UNAVAILABLE))
    async def list_all_surveys(_staff: Admin, cursor: Cursor = None, limit: Limit = 20) -> StaffSurveyPage:
        """List surveys, newest first, drafts too."""
        found = await catalogue.page(read_cursor(cursor), limit + 1, drafts=True)
        return StaffSurveyPage.of(found[:limit], next_cursor(found, limit))

    @router.get("/{survey_id}", summary="Read a survey of any stage", responses=_CHANGED)
    async def read_survey(survey_id: str, _staff: Admin, response: Response) -> SurveyBody:
        """Read a survey, drafts too, with the version that `If-Match` takes."""
        entry = await management.get(survey_id)
        response.headers["ETag"] = entity_tag(entry.survey.version)
        return SurveyBody.of(entry)

    @router.put("/{survey_id}", summary="Change a survey", responses=_CHANGED)
    async def change_survey(
        survey_id: str, request: SurveyRequest, staff: Admin, response: Response, if_match: IfMatch = None
    ) -> SurveyBody:
        """Change title, questions and options in one request.

        A question or option with `id` is changed, without `id` created, left out deleted; ids of what stays never
        change. Once published, only titles, descriptions, texts and images can be corrected.
        """
        entry = await management.update(survey_id, request.draft(), staff.actor, Precondition(if_match))
        response.headers["ETag"] = entity_tag(entry.survey.version)
        return SurveyBody.of(entry)

    @router.delete("/{survey_id}", status_code=204, summary="Delete a draft", responses=_CHANGED)
    async def delete_survey(survey_id: str, staff: Admin, if_match: IfMatch = None) -> None:
        """Delete a survey that was never published."""
        await management.delete(survey_id, staff.actor, Precondition(if_match))

    @router.put("/{survey_id}/publish", summary="Publish a survey", responses=_STEERED)
    async def publish_survey(
        survey_id: str, staff: Admin, response: Response, if_match: IfMatch = None
    ) -> SurveyWindowBody:
        """Open the survey to voters, in every cell at once, now or at its `startDate`.

        503 `survey_publishing` says that a cell cannot be reached; it goes on by itself, and asking again is safe.
        """
        entry = await management.publish(survey_id, staff.actor, Precondition(if_match))
        response.headers["ETag"] = entity_tag(entry.survey.version)
        return SurveyWindowBody.of(entry)

    @router.put("/{survey_id}/finish", summary="Finish a survey", responses=_STEERED)
    async def finish_survey(
        survey_id: str, staff: Admin, response: Response, if_match: IfMatch = None
    ) -> SurveyWindowBody:
        """Close the survey for good, in every cell; votes that were accepted before count."""
        entry = await management.finish(survey_id, staff.actor, Precondition(if_match))
        response.headers["ETag"] = entity_tag(entry.survey.version)
        return SurveyWindowBody.of(entry)

    return router
