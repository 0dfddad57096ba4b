"""Wires the service `auth`: the only one that signs voters' access tokens."""

from contextlib import AsyncExitStack

from api.auth.app import create_app
from api.auth.cells import AuthCells
from api.auth.key_routes import key_routes
from api.background import run_beside
from api.composition import Service
from api.http.limits_opening import open_limits
from integrations.keys.file_kms import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, LIMITS
from integrations.keys.signing import Ed25519Signer, VerificationKeys, keep_fresh
from integrations.settings import Settings
from integrations.telemetry.metrics import DatabaseMetrics
from integrations.telemetry.telemetry import Telemetry


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    keys = open_keys(settings, ACCESS_TOKEN, LIMITS)
    signer, access_keys = Ed25519Signer(keys, ACCESS_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    for held in (signer, access_keys):  # in this order: on a new system the first makes the key
        await held.refresh()
    run_beside(lifetime, keep_fresh(signer, access_keys))
    limits = await open_limits(settings, keys, lifetime, telemetry)
    cells = AuthCells(settings, database=DatabaseMetrics(telemetry.registry))
    await cells.open(lifetime)
    telemetry.readiness.add("cells", cells.ready)
    return Service(create_app([key_routes(access_keys, limits)], telemetry=telemetry, public_url=settings.public_url))
