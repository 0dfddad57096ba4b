"""The application of the service `compliance`: what convinces a third party."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI

from api.compliance.log_routes import log_routes
from api.compliance.logs import LogDesk
from api.http.access import Principal
from api.http.application import create_application
from integrations.telemetry.telemetry import Telemetry


def create_app(
    logs: LogDesk, officers: Callable[..., Awaitable[Principal]], *, telemetry: Telemetry, public_url: str = ""
) -> FastAPI:
    """Return the application; `officers` is the dependency that lets in who may read audit logs."""
    app = create_application("compliance", telemetry, summary="Audit logs and their proofs", public_url=public_url)
    app.include_router(log_routes(logs, officers))
    return app
