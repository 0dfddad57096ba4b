"""The application of the service `webhooks`: one address per vendor."""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response

from api.http.application import create_application, problem_responses
from api.http.limits import Limits, limited
from api.http.models import QueryText
from api.webhooks.intake import WebhookIntake
from domain.errors import ErrorCode
from domain.limits import WEBHOOK_ADDRESS, WEBHOOK_NETWORK
from domain.webhook_inbox import BODY_MAX
from integrations.telemetry.telemetry import Telemetry


def create_app(intake: WebhookIntake, limits: Limits, *, telemetry: Telemetry, public_url: str = "") -> FastAPI:
    """Return the application."""
    app = create_application(
        "webhooks",
        telemetry,
        summary="Takes what vendors tell us unasked, as hints",
        public_url=public_url,
        body_limit_bytes=BODY_MAX,
    )
    router = APIRouter(tags=["webhooks"])

    @router.post(
        "/v1/webhooks/{vendor}",
        status_code=202,
        response_class=Response,
        summary="Tell us that something may have changed",
        responses=problem_responses(
            ErrorCode.NOT_FOUND,
            ErrorCode.WEBHOOK_INVALID,
            ErrorCode.PAYLOAD_TOO_LARGE,
            ErrorCode.RATE_LIMITED,
            ErrorCode.CELL_UNAVAILABLE,
            ErrorCode.DIRECTORY_UNAVAILABLE,
            ErrorCode.KEY_UNAVAILABLE,
        ),
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "As the vendor signs it; the signature is checked over these very bytes.",
                "content": {"application/json": {"schema": {}}},
            }
        },
        dependencies=[Depends(limited(limits.route(address=WEBHOOK_ADDRESS, network=WEBHOOK_NETWORK)))],
    )
    async def webhook(vendor: Annotated[QueryText, Path(max_length=32)], request: Request) -> Response:
        """Keep an event, and answer; sent again, it changes nothing."""
        await intake.take(vendor, request.headers, await request.body())
        return Response(status_code=202)

    app.include_router(router)
    return app
