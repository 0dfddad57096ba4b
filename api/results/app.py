"""The application of the service `results`: totals for everyone who may see them, and for staff."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Protocol

from fastapi import Depends, FastAPI, Header, Query, Response

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import create_application, problem_responses
from api.http.limits import Limits, limited
from api.http.models import QueryText
from api.results.bodies import ResultsBody
from api.results.rendering import Snapshots, is_known
from domain.contracts.surveys import Visibility
from domain.errors import ErrorCode
from domain.limits import RESULTS_ADDRESS, RESULTS_NETWORK
from domain.results import Filter, PublishedSurvey, check_visible
from domain.tally import MergedTotals
from integrations.telemetry.telemetry import Telemetry

# A cache in front asks us once a second, whatever the number of readers behind it; while we are away it may go on.
_PUBLIC: Final = "public, max-age=0, s-maxage=1, stale-if-error=30"
_PRIVATE: Final = "private, no-store"
_FILTERS_MAX: Final = 100

Regions = Annotated[
    list[QueryText],
    Query(
        alias="region",
        default_factory=list,
        max_length=_FILTERS_MAX,
        description="Only ballots of this region. Repeatable.",
    ),
]
Options = Annotated[
    list[QueryText],
    Query(
        alias="option",
        default_factory=list,
        max_length=_FILTERS_MAX,
        description="Only this option, by id. Repeatable.",
    ),
]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match")]
_AWAY: Final = (ErrorCode.TALLY_UNAVAILABLE, ErrorCode.LEDGER_UNAVAILABLE)
_RESPONSES: Final = {
    304: {"description": "The votes are still those that `If-None-Match` names."},
    **problem_responses(ErrorCode.SURVEY_NOT_FOUND, ErrorCode.REGION_UNKNOWN, ErrorCode.OPTION_UNKNOWN, *_AWAY),
}


class Results(Protocol):
    """What this service reads."""

    async def published(self, survey_id: str) -> PublishedSurvey:
        """Return a survey as its cells have it."""
        ...

    async def totals(self, survey_id: str) -> MergedTotals:
        """Return every vote."""
        ...

    async def public_totals(self, survey_id: str) -> MergedTotals:
        """Return what everyone may see."""
        ...


def create_app(
    results: Results,
    admin: Callable[..., Awaitable[Principal]],
    limits: Limits,
    telemetry: Telemetry,
    *,
    public_url: str = "",
) -> FastAPI:
    """Return the application; `admin` is the dependency that lets in who may see results at any time."""
    app = create_application("results", telemetry, summary="Totals of surveys over all cells.", public_url=public_url)
    public, exact = Snapshots(results.public_totals), Snapshots(results.totals)
    Admin = Annotated[Principal, Depends(admin)]  # noqa: N806 - a type

    async def answer(
        snapshots: Snapshots, published: PublishedSurvey, narrowed: Filter, if_none_match: str | None, caching: str
    ) -> Response:
        narrowed.check(published.survey)
        rendered = (await snapshots.get(published.survey)).render(narrowed)
        headers = {"ETag": rendered.entity_tag, "Cache-Control": caching}
        if is_known(if_none_match, rendered.entity_tag):
            return Response(status_code=304, headers=headers)
        return Response(rendered.body, media_type="application/json", headers=headers)

    @app.get(
        "/v1/surveys/{survey_id}/results",
        tags=["Results"],
        summary="Read results",
        response_model=ResultsBody,
        responses={**_RESPONSES, **problem_responses(ErrorCode.RESULTS_NOT_VISIBLE, ErrorCode.RATE_LIMITED)},
        dependencies=[Depends(limited(limits.route(address=RESULTS_ADDRESS, network=RESULTS_NETWORK)))],
    )
    async def read_results(
        survey_id: str,
        region: Regions,
        option: Options,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Read the totals, where the survey's visibility lets everyone see them now."""
        published = await results.published(survey_id)
        check_visible(published)
        caching = _PUBLIC if published.survey.visibility is Visibility.LIVE or published.is_closed else _PRIVATE
        return await answer(public, published, Filter.of(region, option), if_none_match, caching)

    @app.get(
        "/v1/internal/surveys/{survey_id}/results",
        tags=["Survey management"],
        summary="Read results at any time",
        response_model=ResultsBody,
        responses={
            **_RESPONSES,
            **STAFF_RESPONSES,
            **problem_responses(*_AWAY, ErrorCode.AUDIT_LOG_UNAVAILABLE),
        },
    )
    async def read_results_as_staff(
        survey_id: str,
        _staff: Admin,
        region: Regions,
        option: Options,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Read the totals to the vote, whatever the survey's visibility and minimum step."""
        published = await results.published(survey_id)
        return await answer(exact, published, Filter.of(region, option), if_none_match, _PRIVATE)

    return app
