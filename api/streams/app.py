"""The application of the service `streams`: its one route is answered without the framework, and documented here."""

from typing import Annotated

from fastapi import FastAPI, Header, Response
from fastapi.responses import StreamingResponse

from api.http.application import create_application, problem_responses
from api.http.lean import LeanRoute
from api.streams.hub import StreamHub
from domain.errors import ErrorCode
from integrations.telemetry.telemetry import Telemetry

_PATH = "/v1/surveys/{id}/results/stream"


def lean_routes(hub: StreamHub) -> list[LeanRoute]:
    """Return the route that is answered without the framework."""
    return [LeanRoute("GET", _PATH, hub.open_stream)]


def create_app(telemetry: Telemetry, *, public_url: str = "") -> FastAPI:
    """Return the application."""
    app = create_application("streams", telemetry, summary="Results of surveys as they come.", public_url=public_url)

    @app.get(
        _PATH,
        tags=["Results"],
        summary="Watch results",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "Server-sent events. `results`: the document of the results call, whenever it changes, "
                "at most five times a second; its `id` names what is counted. `closed`: the survey is over; what was "
                "accepted before may still come. `handover`: this process stops; come back after `retry`.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **problem_responses(
                ErrorCode.SURVEY_NOT_FOUND,
                ErrorCode.RESULTS_NOT_VISIBLE,
                ErrorCode.RATE_LIMITED,
                ErrorCode.TALLY_UNAVAILABLE,
                ErrorCode.LEDGER_UNAVAILABLE,
            ),
        },
    )
    async def watch_results(
        id: str,  # noqa: A002 - the name in the address
        last_event_id: Annotated[
            str | None,
            Header(
                alias="Last-Event-ID",
                description="Nothing comes that is older; where it is the newest, nothing until the next.",
            ),
        ] = None,
    ) -> Response:
        """Send the newest results at once, then every change. A slow reader skips to the newest.

        Only surveys whose results are live have a stream.
        """
        raise LookupError("the lean route serves this")

    return app
