"""Opens the vendor of device intelligence, and what opens the results that it sealed for us."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from domain.devices import DeviceIntelligence
from integrations.devices.client import open_fingerprint
from integrations.devices.sealed import FingerprintSealedEvents
from integrations.devices.shown import ShownDevices
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.vendor_settings import FingerprintSettings


@dataclass(frozen=True, slots=True)
class OpenDevices:
    """Who is asked for an event; `shown` is the same, and takes sealed results where they are sealed for us."""

    vendor: DeviceIntelligence
    shown: ShownDevices | None = None


async def open_devices(
    settings: FingerprintSettings, lifetime: AsyncExitStack, metrics: VendorMetrics | None = None
) -> OpenDevices:
    """Return the vendor of the settings; its client is closed with `lifetime`."""
    vendor = await lifetime.enter_async_context(open_fingerprint(settings, metrics))
    if not settings.sealed_keys:
        return OpenDevices(vendor)
    shown = ShownDevices(vendor, FingerprintSealedEvents.of(settings))
    return OpenDevices(shown, shown)
