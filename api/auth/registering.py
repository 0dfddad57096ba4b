"""Opens what registration needs besides the service's own: its cells, and the vendors that it asks."""

from contextlib import AsyncExitStack

from api.auth.registrations import RegistrationDesk, Vendors
from domain.ports import KeyManagement
from integrations.challenges.client import open_turnstile
from integrations.devices.client import open_fingerprint
from integrations.identity.opening import open_providers
from integrations.identity.policy import registration_policy
from integrations.identity_cell import IdentityCells
from integrations.keys.lookups import KeyedLookupHashes
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry


async def open_registration(
    settings: Settings, keys: KeyManagement, lifetime: AsyncExitStack, telemetry: Telemetry
) -> RegistrationDesk:
    """Return the desk; `keys` may use `kek/personal`, `lookup` and `history`. What it opened ends with `lifetime`."""
    cells = IdentityCells(settings, keys, telemetry.tracing.temporal_interceptor())
    await cells.open(lifetime)
    turnstile, fingerprint = settings.turnstile, settings.fingerprint
    vendors = Vendors(
        await open_providers(settings, lifetime),
        None if turnstile is None else await lifetime.enter_async_context(open_turnstile(turnstile)),
        None if fingerprint is None else await lifetime.enter_async_context(open_fingerprint(fingerprint)),
    )
    return RegistrationDesk(
        tuple(settings.cells), cells.of, KeyedLookupHashes(keys), vendors, registration_policy(settings)
    )
