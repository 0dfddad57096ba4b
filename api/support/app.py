"""The application of the service `support`: cases, read by staff, masked by role, and what they have done to them."""

from collections.abc import Awaitable, Callable, Collection

from fastapi import FastAPI

from api.console.opening import Console
from api.http.access import Principal
from api.http.application import create_application
from api.support.acting import ActionDesk
from api.support.action_routes import action_routes
from api.support.desk import CaseDesk
from api.support.pages import SupportPages, add_support_pages
from api.support.routes import support_routes
from api.support.stuck import StuckDesk
from api.support.temporal_pages import add_temporal_pages
from api.support.unmasking import UnmaskingDesk
from api.support.unmasking_pages import UnmaskingPages, add_unmasking_pages
from api.support.unmasking_routes import unmasking_routes
from integrations.telemetry.telemetry import Telemetry


def create_app(
    desk: CaseDesk,
    stuck: StuckDesk,
    actions: ActionDesk,
    unmaskings: UnmaskingDesk,
    *,
    staff: Callable[..., Awaitable[Principal]],
    deciders: Callable[..., Awaitable[Principal]],
    readers: Callable[..., Awaitable[Principal]],
    telemetry: Telemetry,
    public_url: str = "",
    console: Console | None = None,
    codec_origins: Collection[str] = (),
) -> FastAPI:
    """Return the application; `staff` lets in who may see cases, the others who may decide and read unmaskings.

    With a console there are its pages besides; one leads to where Temporal's UI is, at `codec_origins`.
    """
    app = create_application(
        "support",
        telemetry,
        summary="Cases as staff may see them, masked by role",
        public_url=public_url,
        forms_below="" if console is None else console.pages.site.base,
    )
    app.include_router(support_routes(desk, stuck, staff))
    app.include_router(action_routes(actions, staff))
    app.include_router(unmasking_routes(unmaskings, staff=staff, deciders=deciders, readers=readers))
    if console is not None:
        add_support_pages(console, SupportPages(console, desk, stuck, actions))
        add_unmasking_pages(console, UnmaskingPages(console, unmaskings))
        add_temporal_pages(console, codec_origins)
        app.include_router(console.router)
    return app
