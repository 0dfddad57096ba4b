"""The application of the service `surveys`: managed by staff, read by everyone, exported on request."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI

from api.console.opening import Console
from api.http.access import Principal
from api.http.application import create_application
from api.http.limits import Limits
from api.surveys.certification_routes import (
    Certifications,
    certification_public_routes,
    certification_staff_routes,
)
from api.surveys.export_pages import ExportPages, add_export_pages
from api.surveys.export_routes import export_routes
from api.surveys.exporting import ExportDesk, Exports
from api.surveys.management import SurveyManagement
from api.surveys.processes import SurveyProcesses
from api.surveys.public_routes import public_routes
from api.surveys.reconciliation_routes import reconciliation_routes
from api.surveys.staff_routes import staff_routes
from api.surveys.steering_routes import steering_routes
from domain.reconciliation_ports import FindingsReader
from domain.survey_ports import SurveyCatalogue
from integrations.telemetry.telemetry import Telemetry

BODY_LIMIT_BYTES = 1024 * 1024  # the largest survey that the rules take, as JSON with room for spaces


def create_app(
    catalogue: SurveyCatalogue,
    processes: SurveyProcesses,
    exports: Exports,
    findings: FindingsReader,
    admin: Callable[..., Awaitable[Principal]],
    *,
    limits: Limits,
    certifications: Certifications,
    telemetry: Telemetry,
    public_url: str = "",
    console: Console | None = None,
) -> FastAPI:
    """Return the application; `admin` is the dependency that lets in who may manage surveys.

    With a console there are its pages besides.
    """
    app = create_application(
        "surveys",
        telemetry,
        summary="Surveys: created, changed, published and finished by staff, read by everyone.",
        public_url=public_url,
        body_limit_bytes=BODY_LIMIT_BYTES,
        forms_below="" if console is None else console.pages.site.base,
    )
    management = SurveyManagement(catalogue, processes)
    app.include_router(staff_routes(management, catalogue, admin))
    app.include_router(steering_routes(management, admin))
    app.include_router(certification_staff_routes(management, catalogue, processes, certifications, admin))
    desk = ExportDesk(management, exports)
    app.include_router(export_routes(desk, admin, limits))
    app.include_router(reconciliation_routes(management, findings, admin))
    app.include_router(certification_public_routes(management, certifications, limits))
    app.include_router(public_routes(management, catalogue, limits))
    if console is not None:
        add_export_pages(console, ExportPages(console, desk), limits)
        app.include_router(console.router)
    return app
