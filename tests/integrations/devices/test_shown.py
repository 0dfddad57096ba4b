"""Events that clients hand over sealed: which are taken, for how long, and who is asked for the others."""

import json
import zlib
from base64 import b64decode, b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.devices import DeviceEvent
from integrations.devices import shown
from integrations.devices.mapping import read_event
from integrations.devices.sealed import HEADER, FingerprintSealedEvents
from integrations.devices.shown import ShownDevices

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def content(event_id: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": event_id, "timestamp": 1_700_000_000_000, "linked_id": "of the client", **fields}


def sealed(event_id: str, key: str = KEY, **fields: Any) -> str:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(json.dumps(content(event_id, **fields)).encode()) + packer.flush()
    return b64encode(HEADER + bytes(12) + AESGCM(b64decode(key)).encrypt(bytes(12), packed, None)).decode()


class Vendor:
    """Answers with an event of its own, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.erased: list[str] = []

    async def event(self, event_id: str) -> DeviceEvent:
        self.asked.append(event_id)
        return read_event(content(event_id) | {"linked_id": "of the vendor"})

    async def erase(self, device_id: str) -> None:
        self.erased.append(device_id)


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def devices(vendor: Vendor, clock: Clock) -> ShownDevices:
    return ShownDevices(vendor, FingerprintSealedEvents([b64decode(KEY)]), now=clock)


async def test_an_event_that_was_shown_is_asked_of_nobody_for_a_minute(
    devices: ShownDevices, vendor: Vendor, clock: Clock
) -> None:
    assert devices.show("1.a", sealed("1.a"))
    for _ in range(2):  # a step that is repeated reads it again
        assert (await devices.event("1.a")).linked_id == "of the client"
    assert (await devices.event("1.b")).linked_id == "of the vendor"
    clock.at += 60
    assert (await devices.event("1.a")).linked_id == "of the vendor"
    assert vendor.asked == ["1.b", "1.a"]
    await devices.erase("visitor")
    assert vendor.erased == ["visitor"]


@pytest.mark.parametrize(
    ("named", "result"),
    [
        ("1.b", sealed("1.a")),  # of another event than the one that is named
        ("1.a", sealed("1.a", key=b64encode(bytes(32)).decode())),
        ("1.a", sealed("1.a")[:-4]),
        ("1.a", "nothing of the vendor"),
        ("1.a", sealed("1.a", incremental_identification_status="partially_completed")),
    ],
)
async def test_of_whatever_else_comes_the_vendor_is_asked(
    devices: ShownDevices, vendor: Vendor, named: str, result: str
) -> None:
    assert not devices.show(named, result)
    for event_id in ("1.a", "1.b"):
        assert (await devices.event(event_id)).linked_id == "of the vendor"
    assert vendor.asked == ["1.a", "1.b"]


async def test_the_oldest_are_forgotten_first(
    devices: ShownDevices, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "_KEPT_MAX", 3)
    for number in (1, 2, 3, 1, 4):
        assert devices.show(f"1.{number}", sealed(f"1.{number}"))
    for number in (1, 3, 4, 2):
        await devices.event(f"1.{number}")
    assert vendor.asked == ["1.2"]
