"""Opens what registration needs besides the service's own: the vendors that it asks."""

from contextlib import AsyncExitStack

from api.auth.registrations import RegistrationDesk, Vendors
from domain.accounts import LookupHashes
from domain.ports import KeyManagement
from integrations.challenges.client import open_turnstile
from integrations.devices.opening import open_devices
from integrations.identity.opening import open_providers
from integrations.identity.policy import registration_policy
from integrations.identity_cell import IdentityCells
from integrations.keys.registration_secrets import RegistrationSecrets
from integrations.settings import Environment, Settings
from integrations.telemetry.vendor_metrics import VendorMetrics


async def open_vendors(settings: Settings, lifetime: AsyncExitStack, metrics: VendorMetrics | None = None) -> Vendors:
    """Return the vendors of the settings; their clients are closed with `lifetime`."""
    turnstile, fingerprint = settings.turnstile, settings.fingerprint
    providers = await open_providers(settings, lifetime, metrics)
    devices = None if fingerprint is None else await open_devices(fingerprint, lifetime, metrics)
    challenges = None
    if turnstile is not None:
        challenges = await lifetime.enter_async_context(open_turnstile(turnstile, metrics))
    if devices is None:
        return Vendors(providers, challenges)
    return Vendors(providers, challenges, devices.vendor, devices.shown)


def registration_desk(
    settings: Settings, cells: IdentityCells, vendors: Vendors, hashes: LookupHashes, keys: KeyManagement
) -> RegistrationDesk:
    """Return the desk of registration; `keys` may use `registration`.

    Raises:
        ValueError: in production, where nobody says whose people may register: a region of one's own marks a ballot.
    """
    if settings.environment is Environment.PRODUCTION and not settings.registration_regions:
        raise ValueError("production wants COMITIA_REGISTRATION_REGIONS: a region of one's own marks a ballot")
    policy, secrets = registration_policy(settings), RegistrationSecrets(keys)
    return RegistrationDesk(tuple(settings.cells), cells.of, hashes, vendors, policy, secrets=secrets)
