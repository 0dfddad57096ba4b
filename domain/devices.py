"""Device intelligence: what the server learns of the device behind a request, and what follows from it.

An identifier from a client proves nothing: the client hands over an event id, and the server reads the event.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from domain.errors import ErrorCode

# Nobody can say what an event is
DEVICES_AWAY: Final = frozenset(
    {ErrorCode.DEVICES_UNAVAILABLE, ErrorCode.DEVICES_MISCONFIGURED, ErrorCode.DEADLINE_EXCEEDED}
)


class DeviceFlag(StrEnum):
    """What a device event may say against a device; a flag that was not measured is absent, never false."""

    BOT = "bot"
    EMULATOR = "emulator"
    ROOTED = "rooted"
    JAILBROKEN = "jailbroken"
    CLONED_APP = "cloned_app"
    TAMPERED = "tampered"
    VIRTUAL_MACHINE = "virtual_machine"
    HOOKED = "hooked"  # an instrumentation framework is attached
    MITM = "mitm"
    REPLAYED = "replayed"
    VPN = "vpn"
    PROXY = "proxy"
    TOR = "tor"
    INCOGNITO = "incognito"
    LOCATION_SPOOFED = "location_spoofed"
    HIGH_ACTIVITY = "high_activity"


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """One identification event as the vendor has it.

    `device_id` is the vendor's stable id (empty where it could not identify), `linked_id` the nonce that we issued
    for this request, `confidence` 0 to 1, `country` ISO 3166 alpha-2 of the address, with its position in degrees.
    `origin` is where the client ran: `https://vote.example`, `android:{package}`, `ios:{bundle}`, or empty; it is
    `is_ours` unless our clients are known to run elsewhere. Without `complete` the vendor has not finished, and what
    the flags say is not all.
    """

    event_id: str
    at: datetime
    device_id: str = field(repr=False)
    confidence: float = 0.0
    linked_id: str = ""
    flags: frozenset[DeviceFlag] = frozenset()
    ip_address: str = field(default="", repr=False)
    user_agent: str = field(default="", repr=False)
    country: str = ""
    latitude: float | None = field(default=None, repr=False)
    longitude: float | None = field(default=None, repr=False)
    asn: str = ""
    origin: str = ""
    is_ours: bool = True
    complete: bool = True


class DeviceIntelligence(Protocol):
    """The vendor that identifies devices."""

    async def event(self, event_id: str) -> DeviceEvent:
        """Return an event, waiting a moment for one that is not readable yet.

        Raises:
            DomainError: `device_event_invalid` (final: no such event), `devices_unavailable` (retryable) or
                `devices_misconfigured` (final: our key is wrong).
        """
        ...

    async def erase(self, device_id: str) -> None:
        """Ask the vendor to forget a device; safe to repeat. Raises DomainError as `event`."""
        ...


class SealedDeviceEvents(Protocol):
    """Opens events that the vendor sealed for us and the client handed over, without asking the vendor."""

    def open(self, sealed: str) -> DeviceEvent:
        """Return the event in a sealed result (base64); whether it is one of this request is yet to be judged.

        Raises:
            DomainError: `device_event_invalid`: not sealed for us, altered, or no event.
        """
        ...
