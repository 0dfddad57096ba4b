"""The application of the service `auth`: registration, login, sessions and accounts; each area is a router."""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI

from api.http.application import create_application
from integrations.telemetry.telemetry import Telemetry

FORM = "application/x-www-form-urlencoded"  # what identity providers send


def create_app(routers: Iterable[APIRouter], *, telemetry: Telemetry, public_url: str = "") -> FastAPI:
    """Return the application with these routes."""
    app = create_application(
        "auth",
        telemetry,
        summary="Registers people, lets them in, and says for how long",
        public_url=public_url,
        media_types=frozenset({"application/json", FORM}),
    )
    for router in routers:
        app.include_router(router)
    return app
