"""Fingerprint's sandbox: the vendor's server API as a small real server."""

from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from integrations.devices.sandbox.control import control_routes
from integrations.devices.sandbox.serving import Refusal, error_body, vendor_routes
from integrations.devices.sandbox.store import REGIONS, Key, Store
from integrations.sandboxes.faults import Faults, FaultSwitches, fault_routes
from integrations.settings import Settings
from integrations.vendor_settings import FingerprintSettings

_ERRORS: Final = {
    429: ("too_many_requests", "too many search requests"),
    500: ("failed", "internal server error"),
    504: ("failed", "gateway timeout"),
}


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:  # noqa: ARG001 - holds nothing
    """Return the sandbox, which knows the key of the settings in the region that their address names."""
    return None if settings.fingerprint is None else _app(settings.fingerprint)


def _app(settings: FingerprintSettings) -> ASGIApp:
    store, faults = Store(), Faults()
    store.keys[settings.api_key.get_secret_value()] = Key(region=_region(settings.base_url))
    sealing_keys = [key.get_secret_value() for key in settings.sealed_keys]
    app = FastAPI(openapi_url=None)
    app.include_router(fault_routes(faults))
    app.include_router(control_routes(store, next(iter(sealing_keys), "")))
    app.include_router(vendor_routes(store))

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        return refusal.answer()

    return FaultSwitches(app, faults, lambda status: error_body(*_ERRORS.get(status, ("failed", "failed"))))


def _region(base_url: str) -> str:
    """Return the region of a base address: `.../fingerprint/eu/v4`."""
    named = set(urlsplit(base_url).path.split("/"))
    return next((region for region in REGIONS if region in named), REGIONS[0])
