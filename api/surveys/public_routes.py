"""What anyone may read: `/v1/surveys`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from api.http.application import problem_responses
from api.http.limits import Limits, limited
from api.surveys.bodies import SurveyBody, SurveyPage
from api.surveys.cursors import next_cursor, read_cursor
from api.surveys.management import SurveyManagement
from api.surveys.staff_routes import Cursor, Limit
from api.surveys.versions import entity_tag, is_unchanged
from domain.errors import ErrorCode
from domain.limits import LIST_ADDRESS, LIST_NETWORK, SURVEY_ADDRESS, SURVEY_NETWORK
from domain.survey_ports import SurveyCatalogue

# A published survey changes only when it is finished or a text is corrected: caches ask whether it did.
_CACHED = "public, max-age=1, stale-if-error=60"

IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match")]


def public_routes(management: SurveyManagement, catalogue: SurveyCatalogue, limits: Limits) -> APIRouter:
    """Return the routes; none of them ever shows a draft."""
    listing = limited(limits.route(address=LIST_ADDRESS, network=LIST_NETWORK))
    reading = limited(limits.route(address=SURVEY_ADDRESS, network=SURVEY_NETWORK))
    router = APIRouter(prefix="/v1/surveys", tags=["Surveys"])

    @router.get(
        "",
        summary="List surveys",
        responses=problem_responses(ErrorCode.RATE_LIMITED, ErrorCode.CATALOGUE_UNAVAILABLE),
        dependencies=[Depends(listing)],
    )
    async def list_surveys(response: Response, cursor: Cursor = None, limit: Limit = 20) -> SurveyPage:
        """List the surveys that are or were open, newest first."""
        found = await catalogue.page(read_cursor(cursor), limit + 1, drafts=False)
        response.headers["Cache-Control"] = _CACHED
        return SurveyPage.of(found[:limit], next_cursor(found, limit))

    @router.get(
        "/{survey_id}",
        summary="Read a survey",
        response_model=SurveyBody,
        responses={
            304: {"description": "The survey is still of the version that `If-None-Match` names."},
            **problem_responses(ErrorCode.SURVEY_NOT_FOUND, ErrorCode.RATE_LIMITED, ErrorCode.CATALOGUE_UNAVAILABLE),
        },
        dependencies=[Depends(reading)],
    )
    async def read_public_survey(
        survey_id: str, response: Response, if_none_match: IfNoneMatch = None
    ) -> SurveyBody | Response:
        """Read a published survey with its questions and options."""
        entry = await management.get_public(survey_id)
        headers = {"ETag": entity_tag(entry.survey.version), "Cache-Control": _CACHED}
        if is_unchanged(if_none_match, entry.survey.version):
            return Response(status_code=304, headers=headers)
        response.headers.update(headers)
        return SurveyBody.of(entry)

    return router
