import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.devices import DeviceFlag
from domain.errors import DomainError
from integrations.devices.sealed import HEADER, FingerprintSealedEvents
from integrations.vendor_settings import FingerprintSettings
from tests.integrations.vendor_sandboxes import Vendor, open_vendor

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OLD_KEY = b64encode(bytes(32)).decode()
VECTOR = (
    "noXc7QABAgMEBQYHCAkKC+xUnDaOKOmSQg3GOePbTFrD1jokJ5vPuBxC+CCPpdxm44JqIK3kOYxhnjV0oceVoYfAqQR/T1qjdcH/U316MHfVxYNqIM21"
    "/U8IebLcs71US/Y6nn1h2Oq2fXgNrFRcGi35zHOw1G7MSB4+roTya+UuaXV/4m695GWKCQ=="
)
SETTINGS = FingerprintSettings(base_url="http://127.0.0.1:1/v4", api_key="sk", sealed_keys=(KEY, OLD_KEY))
EVENTS = FingerprintSealedEvents.of(SETTINGS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor() -> AsyncIterator[Vendor]:
    async with open_vendor("fingerprint", fingerprint=SETTINGS) as opened:
        yield opened


def sealed(plain: bytes, key: str = KEY) -> str:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(plain) + packer.flush()
    return b64encode(HEADER + bytes(12) + AESGCM(b64decode(key)).encrypt(bytes(12), packed, None)).decode()


def test_the_published_form_is_opened() -> None:
    event = EVENTS.open(VECTOR)
    assert (event.event_id, event.device_id) == ("1700000000000.TESTab", "AbCdEfGhIjKlMnOpQrSt")


def test_a_sealed_event_is_ours_where_our_clients_run() -> None:
    plain = b'{"event_id":"e","timestamp":1700000000000,"url":"https://vote.example/register"}'
    assert EVENTS.open(sealed(plain)).is_ours  # nobody says where that is
    for origin, is_ours in (("https://vote.example", True), ("https://other.example", False)):
        known = SETTINGS.model_copy(update={"origins": frozenset({origin})})
        assert FingerprintSealedEvents.of(known).open(sealed(plain)).is_ours is is_ours


async def test_what_the_vendor_seals_is_opened_under_every_key(vendor: Vendor) -> None:
    event_id = (await vendor.control("POST", "events", profile="rooted"))["eventId"]
    for key in (KEY, OLD_KEY):
        answer = await vendor.control("POST", f"events/{event_id}/sealed", key=key)
        event = EVENTS.open(answer["sealed"])
        assert (event.event_id, event.flags) == (event_id, frozenset({DeviceFlag.ROOTED}))


@pytest.mark.parametrize(
    ("variant", "detail"),
    [
        ("wrong_header", "not a sealed result"),
        ("damaged_tag", "not sealed for us"),
        ("zlib_wrapped", "not packed as agreed"),
    ],
)
async def test_what_is_not_sealed_as_agreed_is_refused(vendor: Vendor, variant: str, detail: str) -> None:
    event_id = (await vendor.control("POST", "events"))["eventId"]
    answer = await vendor.control("POST", f"events/{event_id}/sealed", variant=variant)
    with pytest.raises(DomainError, match=f"device_event_invalid: {detail}"):
        EVENTS.open(answer["sealed"])


def test_a_key_that_is_not_ours_any_more_opens_nothing() -> None:
    newest = FingerprintSealedEvents([b64decode(KEY)])
    with pytest.raises(DomainError, match="not sealed for us"):
        newest.open(sealed(b"{}", OLD_KEY))


@pytest.mark.parametrize(
    "given",
    [
        "",
        "noXc7Q==",
        "no base64!",
        "A" * 300_000,
        sealed(b""),
        sealed(b"[]"),
        sealed(b"\xff"),
        sealed(b"[" * 200_000),
        sealed(b'{"timestamp": 1}'),
        sealed(json.dumps({"event_id": "1", "timestamp": 1, "emulator": "no"}).encode()),
        sealed(b'{"products": {}}'),
    ],
    ids=map(str, range(11)),
)
def test_what_is_no_event_is_refused(given: str) -> None:
    with pytest.raises(DomainError, match="device_event_invalid"):
        EVENTS.open(given)


def test_a_small_text_that_unpacks_to_a_huge_one_is_refused_in_bounded_memory() -> None:
    bomb = sealed(b" " * 4_000_000 + b'{"event_id": "1", "timestamp": 1}')
    assert len(bomb) < 10_000
    with pytest.raises(DomainError, match="not packed as agreed"):
        EVENTS.open(bomb)
