"""Fingerprint's client against its sandbox over HTTP; and against the vendor itself where the environment has a key.

`COMITIA_CONTRACT_FINGERPRINT_KEY`, `..._URL` and `..._EVENT` (a fresh event) make the vendor a second subject.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from domain.devices import DeviceEvent, DeviceFlag, DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from integrations.devices.client import FingerprintDevices, open_fingerprint
from integrations.devices.sandbox.profiles import PROFILES
from integrations.vendor_http import VendorClient, VendorHttp, open_vendor_client
from integrations.vendor_settings import FingerprintSettings
from tests.integrations.vendor_sandboxes import Vendor, open_vendor

KEY = "sk-sandbox"
SETTINGS = FingerprintSettings(base_url="http://127.0.0.1:1/fingerprint/eu/v4", api_key=KEY)
REAL = os.environ.get("COMITIA_CONTRACT_FINGERPRINT_KEY", "")
SUBJECTS = ["sandbox", *(["vendor"] if REAL else [])]
EXPECTED_FLAGS = {
    "vpn": {DeviceFlag.VPN},
    "datacenter_proxy": {DeviceFlag.PROXY},
    "tor": {DeviceFlag.TOR},
    "bot": {DeviceFlag.BOT},
    "good_bot": {DeviceFlag.BOT},
    "emulator": {DeviceFlag.EMULATOR},
    "simulator": {DeviceFlag.EMULATOR},
    "rooted": {DeviceFlag.ROOTED},
    "jailbroken": {DeviceFlag.JAILBROKEN},
    "cloned_app": {DeviceFlag.CLONED_APP},
    "hooked": {DeviceFlag.HOOKED},
    "mitm": {DeviceFlag.MITM},
    "location_spoofed": {DeviceFlag.LOCATION_SPOOFED},
    "tampered": {DeviceFlag.TAMPERED},
    "anti_detect_browser": {DeviceFlag.TAMPERED},
    "virtual_machine": {DeviceFlag.VIRTUAL_MACHINE},
    "replayed": {DeviceFlag.REPLAYED},
    "incognito": {DeviceFlag.INCOGNITO},
    "high_velocity": {DeviceFlag.HIGH_ACTIVITY},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor() -> AsyncIterator[Vendor]:
    async with open_vendor("fingerprint", fingerprint=SETTINGS) as opened:
        await opened.control("PUT", "limits", perSecond=10_000, burst=10_000)
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def devices(vendor: Vendor) -> AsyncIterator[DeviceIntelligence]:
    async with open_fingerprint(_settings(vendor, timeout_s=5.0)) as opened:
        yield opened


@asynccontextmanager
async def hasty(
    vendor: Vendor, *, key: str = KEY, timeout_s: float = 5.0, **client: Any
) -> AsyncIterator[FingerprintDevices]:
    """A client that waits for no event, or for as long as `pauses_s` say."""
    headers = {"authorization": f"Bearer {key}"}
    async with open_vendor_client(f"{vendor.url}/eu/v4", headers=headers) as http:
        vendor_http = VendorHttp(http, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=timeout_s)
        yield FingerprintDevices(vendor_http, **{"pauses_s": (), **client})


def _settings(vendor: Vendor, **changes: Any) -> FingerprintSettings:
    return SETTINGS.model_copy(update={"base_url": f"{vendor.url}/eu/v4", **changes})


async def event_of(vendor: Vendor, profile: str = "clean_browser", **new: Any) -> str:
    created = await vendor.control("POST", "events", profile=profile, **{"readableAfterMs": 0, **new})
    event_id: str = created["eventId"]
    return event_id


def code_of(raised: pytest.ExceptionInfo[DomainError]) -> tuple[ErrorCode, str]:
    return raised.value.code, raised.value.detail


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_an_event_is_read(vendor: Vendor, subject: str) -> None:
    if subject == "vendor":
        settings = FingerprintSettings(base_url=os.environ["COMITIA_CONTRACT_FINGERPRINT_URL"], api_key=REAL)
        event_id = os.environ["COMITIA_CONTRACT_FINGERPRINT_EVENT"]
    else:
        settings, event_id = _settings(vendor), await event_of(vendor, linkedId="nonce-1")
    async with open_fingerprint(settings) as devices:
        event = await devices.event(event_id)
    assert event.event_id == event_id
    assert len(event.device_id) == 20
    assert 0 < event.confidence <= 1
    assert event.complete
    assert timedelta(0) <= datetime.now(UTC) - event.at < timedelta(days=30)


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_what_the_vendor_does_not_know_is_no_event(vendor: Vendor, subject: str) -> None:
    url = os.environ["COMITIA_CONTRACT_FINGERPRINT_URL"] if subject == "vendor" else f"{vendor.url}/eu/v4"
    key = REAL if subject == "vendor" else KEY
    async with open_fingerprint(FingerprintSettings(base_url=url, api_key=key)) as devices:
        with pytest.raises(DomainError) as raised:
            await devices.event("1700000000000.TESTab")
        assert raised.value.code is ErrorCode.DEVICE_EVENT_INVALID
    async with open_fingerprint(FingerprintSettings(base_url=url, api_key="not-a-key")) as stranger:
        with pytest.raises(DomainError) as raised:
            await stranger.event("1700000000000.TESTab")
        assert raised.value.code is ErrorCode.DEVICES_MISCONFIGURED


async def test_an_event_is_ours_where_our_clients_run(vendor: Vendor) -> None:
    ours = frozenset({"https://vote.example", "android:org.example.vote"})
    here: list[dict[str, Any]] = [{}, {"profile": "clean_android"}]
    elsewhere: list[dict[str, Any]] = [
        {"changes": {"url": "https://vote.example.evil/register"}},
        {"changes": {"url": "http://vote.example/register"}},
        {"changes": {"url": None}},
        {"profile": "clean_ios"},
    ]
    async with open_fingerprint(_settings(vendor, origins=ours)) as devices:
        for known in here:
            assert (await devices.event(await event_of(vendor, **known))).is_ours
        for strange in elsewhere:
            assert not (await devices.event(await event_of(vendor, **strange))).is_ours


async def test_every_field_that_we_use_is_mapped(vendor: Vendor, devices: DeviceIntelligence) -> None:
    event_id = await event_of(
        vendor, linkedId="nonce-1", ipAddress="2001:db8::7", country="FR", device="one", ageMs=5000
    )
    event = await devices.event(event_id)
    assert event == DeviceEvent(
        event_id=event_id,
        at=datetime.fromtimestamp(int(event_id.partition(".")[0]) / 1000, UTC),
        device_id=event.device_id,
        confidence=0.99,
        linked_id="nonce-1",
        flags=frozenset(),
        ip_address="2001:db8::7",
        user_agent=event.user_agent,
        country="FR",
        latitude=52.52,
        longitude=13.4,
        asn="64496",
        origin="https://vote.example",
        complete=True,
    )
    assert event.user_agent.startswith("Mozilla/5.0")
    assert (await devices.event(await event_of(vendor, device="one"))).device_id == event.device_id
    assert event.device_id not in repr(event)


@pytest.mark.parametrize("profile", PROFILES)
async def test_every_profile_is_read(vendor: Vendor, profile: str) -> None:
    async with hasty(vendor) as devices:
        event = await devices.event(await event_of(vendor, profile))
    assert event.flags == EXPECTED_FLAGS.get(profile, set())
    assert event.complete is (profile != "partial")
    assert bool(event.device_id) is (profile != "unidentified")


async def test_apps_are_told_by_their_package(vendor: Vendor, devices: DeviceIntelligence) -> None:
    assert (await devices.event(await event_of(vendor, "clean_android"))).origin == "android:org.example.vote"
    assert (await devices.event(await event_of(vendor, "clean_ios"))).origin == "ios:org.example.vote"


async def test_an_event_that_is_not_readable_or_not_complete_yet_is_waited_for(
    vendor: Vendor, devices: DeviceIntelligence
) -> None:
    event_id = await event_of(vendor, "rooted", readableAfterMs=150, completeAfterMs=200)
    event = await devices.event(event_id)
    assert (event.complete, event.flags) == (True, frozenset({DeviceFlag.ROOTED}))


async def test_one_that_stays_incomplete_says_nothing_of_the_device(vendor: Vendor) -> None:
    async with hasty(vendor, pauses_s=(0.01,)) as devices:
        event = await devices.event(await event_of(vendor, "rooted", completeAfterMs=60_000))
    assert (event.complete, event.flags) == (False, frozenset())


async def test_ids_that_are_made_up_are_not_waited_for(vendor: Vendor) -> None:
    async with hasty(vendor, pauses_s=(600.0,)) as patient, asyncio.timeout(60):
        for event_id in ("", "../visitors/x", "a" * 65, "1700000000000.TEST%2f", "1700000000000.TESTab"):
            with pytest.raises(DomainError, match="device_event_invalid"):
                await patient.event(event_id)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await patient.event(f"{int(time.time() * 1000)}.TESTab")


@pytest.mark.parametrize(
    ("key", "fields", "code"),
    [
        ("not-a-key", None, "secret_api_key_not_found"),
        ("sk-us", {"region": "us"}, "wrong_region"),
        ("sk-lapsed", {"region": "eu", "active": False}, "subscription_not_active"),
    ],
)
async def test_a_key_that_is_not_good_is_a_fault_of_ours(
    vendor: Vendor, key: str, fields: dict[str, Any] | None, code: str
) -> None:
    if fields is not None:
        await vendor.control("POST", "keys", key=key, **fields)
    async with open_fingerprint(FingerprintSettings(base_url=f"{vendor.url}/eu/v4", api_key=key)) as devices:
        with pytest.raises(DomainError) as raised:
            await devices.event("1700000000000.TESTab")
    assert code_of(raised) == (ErrorCode.DEVICES_MISCONFIGURED, code)


async def test_no_key_at_all_is_403(vendor: Vendor) -> None:
    async with open_vendor_client(f"{vendor.url}/eu/v4") as http:
        devices = FingerprintDevices(VendorHttp(http, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=1.0))
        with pytest.raises(DomainError) as raised:
            await devices.event("1700000000000.TESTab")
    assert code_of(raised) == (ErrorCode.DEVICES_MISCONFIGURED, "secret_api_key_required")


@pytest.mark.parametrize(
    ("fault", "retry_after_s"),
    [
        ({"kind": "status", "status": 429, "retryAfterS": 7}, 7),
        ({"kind": "status", "status": 429}, 1),
        ({"kind": "status", "status": 500}, None),
        ({"kind": "status", "status": 504}, None),
        ({"kind": "never"}, None),
        ({"kind": "slow", "delayS": 0.6}, None),
        ({"kind": "drop"}, None),
        ({"kind": "truncated"}, None),
        ({"kind": "garbage"}, None),
        ({"kind": "html"}, None),
        ({"kind": "huge", "bytes": 2_000_000}, None),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
async def test_every_failure_of_the_vendor_can_be_tried_again(
    vendor: Vendor, fault: dict[str, Any], retry_after_s: int | None
) -> None:
    event_id = await event_of(vendor)
    timeout_s = 0.3 if fault["kind"] in {"never", "slow"} else 5.0
    async with hasty(vendor, timeout_s=timeout_s) as devices:
        await vendor.fail(**fault)
        with pytest.raises(DomainError) as raised:
            await devices.event(event_id)
        assert raised.value.code is ErrorCode.DEVICES_UNAVAILABLE
        assert raised.value.spec.retryable
        assert raised.value.retry_after_s == retry_after_s
    async with hasty(vendor) as devices:
        assert (await devices.event(event_id)).event_id == event_id


@pytest.mark.parametrize(
    "changes",
    [
        {"emulator": "false"},
        {"bot": True},
        {"timestamp": "yesterday"},
        {"timestamp": -1},
        {"identification": []},
        {"identification": {"visitor_id": "../../x"}},
        {"identification": {"visitor_id": "a", "confidence": {"score": 1.5}}},
        {"ip_info": {"v4": {"geolocation": {"latitude": 1e9}}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_field_of_another_type_makes_the_event_garbled_and_is_not_quoted(
    vendor: Vendor, changes: dict[str, Any]
) -> None:
    async with hasty(vendor) as devices:
        with pytest.raises(DomainError) as raised:
            await devices.event(await event_of(vendor, changes=changes))
    assert code_of(raised) == (ErrorCode.DEVICES_UNAVAILABLE, "1 fields are not as agreed")


@pytest.mark.parametrize(
    ("status", "error", "detail"),
    [
        (404, {"code": "visitor_not_found"}, "visitor_not_found"),
        (404, {"code": "Who are you, a@example.org?"}, "status_404"),
        (404, "not found", "status_404"),
        (500, {"code": ["failed"]}, "status_500"),
    ],
)
async def test_an_error_that_does_not_say_so_is_no_missing_event_and_its_text_goes_nowhere(
    status: int, error: Any, detail: str
) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json={"error": error}))
    async with VendorClient("http://vendor", {}, transport) as client:
        devices = FingerprintDevices(VendorHttp(client, ErrorCode.DEVICES_UNAVAILABLE, timeout_s=1.0))
        with pytest.raises(DomainError) as raised:
            await devices.event("1700000000000.TESTab")
    assert code_of(raised) == (ErrorCode.DEVICES_UNAVAILABLE, detail)


async def test_the_vendors_limit_is_seen_as_such(vendor: Vendor) -> None:
    event_id = await event_of(vendor)
    # of its own, with a bucket of its own: a slow call that a test before gave up takes from that test's key, later
    await vendor.control("POST", "keys", key="sk-limited", region="eu")
    await vendor.control("PUT", "limits", perSecond=0.001, burst=15)
    try:
        async with hasty(vendor, key="sk-limited") as devices:
            outcomes = await asyncio.gather(*(devices.event(event_id) for _ in range(40)), return_exceptions=True)
    finally:
        await vendor.control("PUT", "limits", perSecond=10_000, burst=10_000)
    refused = [outcome for outcome in outcomes if isinstance(outcome, DomainError)]
    assert len(outcomes) - len(refused) == 15
    assert {(error.code, error.detail, error.retry_after_s) for error in refused} == {
        (ErrorCode.DEVICES_UNAVAILABLE, "too_many_requests", 1)
    }


async def test_a_visitor_is_forgotten_once_and_again(vendor: Vendor, devices: DeviceIntelligence) -> None:
    device = secrets.token_hex(8)
    event_id = await event_of(vendor, device=device)
    device_id = (await devices.event(event_id)).device_id
    await devices.erase(device_id)
    await devices.erase(device_id)
    async with hasty(vendor) as quick:
        with pytest.raises(DomainError, match="device_event_invalid"):
            await quick.event(event_id)
    assert (await devices.event(await event_of(vendor, device=device))).device_id != device_id


async def test_erasing_where_it_cannot_be(vendor: Vendor, devices: DeviceIntelligence) -> None:
    with pytest.raises(DomainError, match="devices_misconfigured"):
        await devices.erase("../events/x")
    await vendor.control("POST", "keys", key="sk-starter", region="eu", mayDelete=False)
    async with open_fingerprint(
        _settings(vendor, api_key=FingerprintSettings(base_url="http://x", api_key="sk-starter").api_key)
    ) as starter:
        with pytest.raises(DomainError, match="feature_not_enabled"):
            await starter.erase("A" * 20)
    for fault in ({"kind": "status", "status": 429, "retryAfterS": 120}, {"kind": "never"}):
        await vendor.fail(**fault)
        async with hasty(vendor, timeout_s=1.0) as quick:
            with pytest.raises(DomainError, match="devices_unavailable"):
                await quick.erase("A" * 20)


async def test_the_sandbox_has_the_vendors_other_calls(vendor: Vendor) -> None:
    headers, base = {"authorization": f"Bearer {KEY}"}, f"{vendor.url}/eu/v4"
    linked = secrets.token_hex(8)
    ids = [await event_of(vendor, linkedId=linked, ageMs=age) for age in (2000, 1000, 0)]
    url, body = f"{base}/events/{ids[0]}", {"suspect": True}
    statuses = [(await vendor.client.patch(url, json=body, headers=headers)).status_code for _ in range(2)]
    assert statuses == [409, 200]
    assert (await vendor.client.patch(url, json={"suspect": "yes"}, headers=headers)).status_code == 400
    query = {"linked_id": linked, "limit": "2"}
    page = (await vendor.client.get(f"{base}/events", params=query, headers=headers)).json()
    assert [event["event_id"] for event in page["events"]] == [ids[2], ids[1]]
    query["pagination_key"] = page["pagination_key"]
    rest = (await vendor.client.get(f"{base}/events", params=query, headers=headers)).json()
    assert [(event["event_id"], event["suspect"]) for event in rest["events"]] == [(ids[0], True)]
    refused = await vendor.client.get(f"{base}/events", params={"limit": "0"}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "invalid limit")
