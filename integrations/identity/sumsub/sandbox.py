"""Sumsub's HTTP interface as a small real server, with its signatures, states, refusals and webhooks."""

from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from integrations.identity.sumsub.sandbox_access import Access, CheckedAccess
from integrations.identity.sumsub.sandbox_applicants import Applicants
from integrations.identity.sumsub.sandbox_control import control_routes
from integrations.identity.sumsub.sandbox_errors import SandboxError, error_body
from integrations.identity.sumsub.sandbox_events import Events
from integrations.identity.sumsub.sandbox_routes import SdkTokens, vendor_routes
from integrations.identity.sumsub.webhook import VENDOR
from integrations.sandboxes.deliveries import Deliveries, open_deliveries
from integrations.sandboxes.faults import Faults, FaultSwitches, fault_routes
from integrations.settings import Settings
from integrations.vendor_settings import SumsubSettings


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:
    """Return the sandbox that takes the app token of the settings, or None where they have none."""
    if settings.sumsub is None:
        return None
    deliveries = await lifetime.enter_async_context(open_deliveries(VENDOR, settings.sandboxes))
    return create_sandbox(settings.sumsub, deliveries)


def create_sandbox(settings: SumsubSettings, deliveries: Deliveries) -> ASGIApp:
    """Return the application; it knows one app token, one webhook and one level."""
    events = Events(deliveries, settings.webhook_secret.get_secret_value().encode(), settings.webhook_algorithm)
    access = Access(settings.app_token.get_secret_value(), settings.secret_key.get_secret_value().encode())
    applicants = Applicants({settings.level}, events.tell)
    tokens, faults = SdkTokens(), Faults()
    app = FastAPI(title="Sumsub sandbox", openapi_url=None)
    app.include_router(vendor_routes(applicants, tokens, access))
    app.include_router(control_routes(applicants, tokens, access, events))
    app.include_router(fault_routes(faults))

    @app.exception_handler(SandboxError)
    async def refuse(_: Request, error: SandboxError) -> JSONResponse:
        return JSONResponse(_body(error), error.status)

    return FaultSwitches(CheckedAccess(app, access), faults, error_body)


def _body(error: SandboxError) -> dict[str, Any]:
    return error_body(error.status, error.description, error.error_code)
