"""Reads an event of Fingerprint's server API (v4) as a `DeviceEvent`.

Fields and values that are not known here are ignored: the vendor adds some. A known field of another type makes the
whole event garbled, since taking it for "not measured" would let a manipulated device pass.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.devices import DeviceEvent, DeviceFlag

_USER_AGENT_MAX: Final = 512
_TEXT_MAX: Final = 4096
_TIME_MAX_MS: Final = 4_102_444_800_000  # the year 2100
_COUNTRY_LETTERS: Final = 2

_Text = Annotated[str, Field(max_length=_TEXT_MAX)]


class GarbledEventError(Exception):
    """What was read is no event."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Confidence(_Part):
    score: float = Field(ge=0, le=1)


class _Identification(_Part):
    visitor_id: str = Field(default="", pattern=r"^[A-Za-z0-9]{0,64}$")
    confidence: _Confidence | None = None


class _Geolocation(_Part):
    country_code: _Text | None = None
    latitude: float | None = Field(default=None, ge=-90, le=90)
    longitude: float | None = Field(default=None, ge=-180, le=180)


class _Address(_Part):
    address: _Text | None = None
    geolocation: _Geolocation | None = None
    asn: _Text | int | None = None


class _Addresses(_Part):
    v4: _Address | None = None
    v6: _Address | None = None


class _Blocklist(_Part):
    tor_node: bool | None = None


class _Tampering(_Part):
    anti_detect_browser: bool | None = None


class _Event(_Part):
    event_id: str
    timestamp: int = Field(ge=0, le=_TIME_MAX_MS)  # Unix time in ms
    incremental_identification_status: _Text | None = None
    linked_id: _Text | None = None
    url: _Text | None = None
    package_name: _Text | None = None
    bundle_id: _Text | None = None
    ip_address: _Text | None = None
    user_agent: str | None = None
    identification: _Identification | None = None
    ip_info: _Addresses | None = None
    ip_blocklist: _Blocklist | None = None
    tampering_details: _Tampering | None = None
    bot: _Text | None = None
    replayed: bool | None = None
    emulator: bool | None = None
    simulator: bool | None = None
    root_apps: bool | None = None
    jailbroken: bool | None = None
    cloned_app: bool | None = None
    tampering: bool | None = None
    virtual_machine: bool | None = None
    frida: bool | None = None
    mitm_attack: bool | None = None
    vpn: bool | None = None
    proxy: bool | None = None
    incognito: bool | None = None
    location_spoofing: bool | None = None
    high_activity_device: bool | None = None


_FLAGS: Final = {
    "emulator": DeviceFlag.EMULATOR,
    "simulator": DeviceFlag.EMULATOR,
    "root_apps": DeviceFlag.ROOTED,
    "jailbroken": DeviceFlag.JAILBROKEN,
    "cloned_app": DeviceFlag.CLONED_APP,
    "tampering": DeviceFlag.TAMPERED,
    "virtual_machine": DeviceFlag.VIRTUAL_MACHINE,
    "frida": DeviceFlag.HOOKED,
    "mitm_attack": DeviceFlag.MITM,
    "vpn": DeviceFlag.VPN,
    "proxy": DeviceFlag.PROXY,
    "incognito": DeviceFlag.INCOGNITO,
    "location_spoofing": DeviceFlag.LOCATION_SPOOFED,
    "high_activity_device": DeviceFlag.HIGH_ACTIVITY,
}


def read_event(content: dict[str, Any], origins: Collection[str] = ()) -> DeviceEvent:
    """Return the event in the vendor's JSON object; without `origins`, those of our clients, every one is ours.

    Raises:
        GarbledEventError.
    """
    try:
        event = _Event.model_validate(content)
    except ValidationError as error:
        # Not as its cause: it quotes what it refused
        raise GarbledEventError(f"{error.error_count()} fields are not as agreed") from None
    complete = event.incremental_identification_status != "partially_completed"
    identification = event.identification or _Identification()
    address = _address(event)
    place = address.geolocation or _Geolocation()
    country, origin = place.country_code or "", _origin(event)
    return DeviceEvent(
        event_id=event.event_id,
        at=datetime.fromtimestamp(event.timestamp / 1000, UTC),
        device_id=identification.visitor_id,
        confidence=identification.confidence.score if identification.confidence else 0.0,
        linked_id=event.linked_id or "",
        flags=_flags(event, complete=complete),
        ip_address=event.ip_address or "",
        user_agent=(event.user_agent or "")[:_USER_AGENT_MAX],
        country=country if len(country) == _COUNTRY_LETTERS and country.isalpha() else "",
        latitude=place.latitude,
        longitude=place.longitude,
        asn=str(address.asn or ""),
        origin=origin,
        is_ours=not origins or origin in origins,
        complete=complete,
    )


def _flags(event: _Event, *, complete: bool) -> frozenset[DeviceFlag]:
    """Return what the event says against the device; what is partial counts in nothing but the replay."""
    flags = {DeviceFlag.REPLAYED} if event.replayed else set()
    if not complete:
        return frozenset(flags)
    flags |= {flag for name, flag in _FLAGS.items() if getattr(event, name)}
    if event.bot not in {None, "not_detected"}:  # also a good one, and a kind that is new
        flags.add(DeviceFlag.BOT)
    if event.tampering_details is not None and event.tampering_details.anti_detect_browser:
        flags.add(DeviceFlag.TAMPERED)
    if event.ip_blocklist is not None and event.ip_blocklist.tor_node:
        flags.add(DeviceFlag.TOR)
    return frozenset(flags)


def _address(event: _Event) -> _Address:
    """Return what is known of the address that the event came from, or else of the other one."""
    found = event.ip_info or _Addresses()
    known = [address for address in (found.v4, found.v6) if address is not None]
    own = [address for address in known if address.address == event.ip_address]
    return next(iter([*own, *known]), _Address())


def _origin(event: _Event) -> str:
    if event.package_name:
        return f"android:{event.package_name}"
    if event.bundle_id:
        return f"ios:{event.bundle_id}"
    try:
        parts = urlsplit(event.url or "")
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else ""
