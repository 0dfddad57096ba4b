"""The application of the service `support`: cases, read by staff, masked by role."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI

from api.http.access import Principal
from api.http.application import create_application
from api.support.acting import ActionDesk
from api.support.action_routes import action_routes
from api.support.desk import CaseDesk
from api.support.routes import support_routes
from api.support.stuck import StuckDesk
from integrations.telemetry.telemetry import Telemetry


def create_app(
    desk: CaseDesk,
    stuck: StuckDesk,
    actions: ActionDesk,
    *,
    staff: Callable[..., Awaitable[Principal]],
    support: Callable[..., Awaitable[Principal]],
    telemetry: Telemetry,
    public_url: str = "",
) -> FastAPI:
    """Return the application; `staff` lets in who may see cases, and `support` who may act in them."""
    app = create_application(
        "support", telemetry, summary="Cases as staff may see them, masked by role", public_url=public_url
    )
    app.include_router(support_routes(desk, stuck, staff))
    app.include_router(action_routes(actions, support))
    return app
