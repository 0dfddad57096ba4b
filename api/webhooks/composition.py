"""Wires the service `webhooks`."""

from contextlib import AsyncExitStack

from api.composition import Service
from api.http.limits_opening import open_limits
from api.webhooks.app import create_app
from api.webhooks.intake import WebhookIntake
from integrations.identity.delivering import EvidenceDelivery
from integrations.identity.opening import webhook_verifiers
from integrations.identity.policy import registration_policy
from integrations.identity_cell import IdentityCells
from integrations.keys.opening import open_keys
from integrations.keys.purposes import HISTORY, INBOX, LIMITS
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    keys = open_keys(settings, INBOX, HISTORY, LIMITS, waiting=telemetry.waiting)
    limits = await open_limits(settings, keys, lifetime, telemetry)
    policy = registration_policy(settings)
    cells = IdentityCells(settings, keys, telemetry)
    await cells.open(lifetime)
    telemetry.readiness.add("cells", cells.ready)

    def delivery_of(name: str | None) -> EvidenceDelivery:
        cell = cells.of(name)
        return EvidenceDelivery(cell.registrations, cell.inbox, cell.processes, policy)

    intake = WebhookIntake(webhook_verifiers(settings), delivery_of, telemetry.waiting.watch_webhooks)
    lifetime.push_async_callback(intake.close)
    return Service(create_app(intake, limits, telemetry=telemetry, public_url=settings.public_url))
