"""What a login is compared by: values from the finest to the coarsest, made of the request and of the device event."""

import re
from typing import Final

from domain.contracts.login import LoginFeature
from domain.devices import DeviceEvent
from domain.risk import network_of

_CLIENT_CHARACTERS_MAX: Final = 200
# The first that is found: browsers name those that they descend from after themselves.
_BROWSERS: Final = ("Edg", "OPR", "SamsungBrowser", "Firefox", "FxiOS", "CriOS", "Chrome", "Safari")
_SYSTEMS: Final = ("Android", "iPhone", "iPad", "CrOS", "Windows", "Mac OS X", "Linux")
_PHONES: Final = frozenset({"Android", "iPhone", "iPad"})
_PRODUCT: Final = re.compile(r"[A-Za-z][A-Za-z0-9 .-]{0,31}")


def network_value(client_address: str) -> str:
    """Return the finest value of the network: the /24 or /48 of an address."""
    return named(LoginFeature.NETWORK, 0, network_of(client_address))


def client_values(user_agent: str) -> tuple[str, str, str]:
    """Return the values of the client: what it calls itself, its browser and system, its kind."""
    whole = "".join(letter if letter.isprintable() else " " for letter in user_agent[:_CLIENT_CHARACTERS_MAX])
    product = _PRODUCT.match(whole)
    browser = next((name for name in _BROWSERS if name in whole), product[0] if product else "other")
    system = next((name for name in _SYSTEMS if name in whole), "other")
    kind = "phone" if system in _PHONES or "Mobi" in whole else "computer"
    values = (whole, f"{browser} on {system}", kind)
    return (
        named(LoginFeature.CLIENT, 0, values[0]),
        named(LoginFeature.CLIENT, 1, values[1]),
        named(LoginFeature.CLIENT, 2, values[2]),
    )


def event_values(event: DeviceEvent) -> list[tuple[LoginFeature, int, str]]:
    """Return what a device event adds: the network's operator and country, and the device, as far as it names them."""
    found = [
        (LoginFeature.NETWORK, 1, event.asn),
        (LoginFeature.NETWORK, 2, event.country),
        (LoginFeature.DEVICE, 0, event.device_id),
    ]
    return [(feature, level, named(feature, level, value)) for feature, level, value in found if value]


def named(feature: LoginFeature, level: int, value: str) -> str:
    """Return a value as it is hashed, so that equal values of two levels do not meet."""
    return f"{feature}/{level}/{value}"
