import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from domain.errors import DomainError, ErrorCode
from domain.webhooks import WebhookEvent, WebhookVerifier
from integrations.identity.sumsub.client import SumsubProofing
from integrations.identity.sumsub.webhook import SumsubWebhooks, payload_digest
from integrations.vendor_http import VendorClient, open_vendor_client
from integrations.vendor_settings import SumsubSettings
from tests.integrations.identity.conftest import WITHIN_S, Control, Received, World, open_world

CASE = "r_eu_abcdefghijklmnopqrstuvwxyz-1"
SECRET = "SoMe_SeCrEt_KeY"
AT = datetime(2026, 3, 4, 5, 6, 7, 891000, UTC)
EVENT = {
    "applicantId": "5cb744200a975a67ed1798a4",
    "externalUserId": CASE,
    "correlationId": "req-fa94263f-0b23-42d7-9393-ab10b28ef42d",
    "type": "applicantReviewed",
    "reviewResult": {"reviewAnswer": "GREEN"},
    "createdAt": "2026-03-04 05:06:07+0000",
    "createdAtMs": "2026-03-04 05:06:07.891",
}
DIGESTS = {
    "HMAC_SHA1_HEX": "f6e92ffe371718694d46e28436f76589312df8db",
    "HMAC_SHA256_HEX": "7f3beedce7529616a9d6bba59dc1b054a7247cef67f6acff2600864399f47fe0",
    "HMAC_SHA512_HEX": (
        "3aae08986027051ca0656d87c4c95f1f15d3ecaf23cf239e5a43fd03a8af28223a06be1f97624caefd55475c84673773dc10e895a1ab885a"
        "3548c58bd7af9ebf"
    ),
}


def webhooks(algorithm: str = "HMAC_SHA256_HEX", at: datetime = AT) -> SumsubWebhooks:
    settings = SumsubSettings.model_validate(
        {
            "base_url": "https://vendor.example",
            "app_token": "sbx:a.b",
            "secret_key": "s",
            "level": "l",
            "webhook_secret": SECRET,
            "webhook_algorithm": algorithm,
        }
    )
    return SumsubWebhooks(settings, at.timestamp)


def signed(body: bytes, algorithm: str = "HMAC_SHA256_HEX") -> dict[str, str]:
    digest = payload_digest(SECRET.encode(), algorithm, body)
    return {"x-payload-digest": digest, "x-payload-digest-alg": algorithm}


def verify(event: Any, at: datetime = AT) -> WebhookEvent:
    body = event if isinstance(event, bytes) else msgspec.json.encode(event)
    return webhooks(at=at).verify(signed(body), body)


def refused(event: Any, at: datetime = AT) -> None:
    with pytest.raises(DomainError) as caught:
        verify(event, at)
    assert caught.value.code is ErrorCode.WEBHOOK_INVALID


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_digests_are_as_agreed(algorithm: str) -> None:
    assert payload_digest(SECRET.encode(), algorithm, b"someText") == DIGESTS[algorithm]


@pytest.mark.parametrize("agreed", DIGESTS)
@pytest.mark.parametrize("used", DIGESTS)
def test_only_the_algorithm_that_was_agreed_is_taken(agreed: str, used: str) -> None:
    body = msgspec.json.encode(EVENT)
    verifier: WebhookVerifier = webhooks(agreed)
    if agreed == used:
        assert verifier.verify(signed(body, used), body).case_id == CASE
        return
    for claimed in (used, agreed):
        with pytest.raises(DomainError, match="webhook_invalid"):
            verifier.verify({**signed(body, used), "x-payload-digest-alg": claimed}, body)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-payload-digest": ""},
        {"x-payload-digest": "\u00e9"},
        {"x-payload-digest-alg": "HMAC_SHA256_HEX"},
        {"x-payload-digest": DIGESTS["HMAC_SHA256_HEX"], "x-payload-digest-alg": "HMAC_MD5_HEX"},
        {"x-payload-digest": DIGESTS["HMAC_SHA256_HEX"], "x-payload-digest-alg": ""},
        {"x-payload-digest": DIGESTS["HMAC_SHA256_HEX"].upper(), "x-payload-digest-alg": "HMAC_SHA256_HEX"},
        {"x-payload-digest": DIGESTS["HMAC_SHA256_HEX"][:-1], "x-payload-digest-alg": "HMAC_SHA256_HEX"},
    ],
)
def test_a_missing_or_wrong_signature_is_refused_before_anything_is_read(headers: dict[str, str]) -> None:
    with pytest.raises(DomainError, match=r"signature|algorithm"):
        webhooks().verify(headers, b"someText")


def test_an_event_is_a_hint_and_says_nothing_of_the_verdict() -> None:
    assert verify(EVENT) == WebhookEvent("sumsub", verify(EVENT).delivery_id, CASE, "applicantReviewed", AT)
    assert len(verify(EVENT).delivery_id) == 32


def test_a_delivery_is_known_again_by_what_names_the_event() -> None:
    again = {**EVENT, "reviewResult": {"reviewAnswer": "RED"}, "clientId": "c"}
    assert verify(again).delivery_id == verify(EVENT).delivery_id
    others = [
        {"applicantId": "5cb744200a975a67ed1798a5"},
        {"type": "applicantPending"},
        {"createdAtMs": "2026-03-04 05:06:07.892"},
        {"correlationId": "other"},
        {"applicantId": "5cb744200a975a67ed1798a4a", "type": "pplicantReviewed"},
    ]
    found = {verify({**EVENT, **other}).delivery_id for other in others}
    assert len(found | {verify(EVENT).delivery_id}) == 1 + len(others)


def test_what_is_unknown_or_missing_is_borne() -> None:
    assert verify({**EVENT, "type": "applicantSomethingNew"}).kind == "applicantSomethingNew"
    assert verify({**EVENT, "externalUserId": None, "correlationId": None}).case_id == ""
    assert verify({**EVENT, "createdAt": None}).sent_at == AT
    assert verify({**EVENT, "createdAtMs": None}).sent_at == AT.replace(microsecond=0)


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"someText",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        {**EVENT, "applicantId": ""},
        {**EVENT, "applicantId": None},
        {**EVENT, "type": "a\nb"},
        {**EVENT, "type": 1},
        {**EVENT, "externalUserId": "a b"},
        {**EVENT, "createdAt": None, "createdAtMs": None},
        {**EVENT, "createdAt": "2026-03-04 05:06:07", "createdAtMs": None},
        {**EVENT, "createdAtMs": "soon"},
        msgspec.json.encode({**EVENT, "filling": "a" * 300_000}),
    ],
    ids=range(14),
)
def test_what_is_no_event_is_refused(event: Any) -> None:
    refused(event)


def test_what_comes_too_late_or_too_early_is_refused() -> None:
    verify(EVENT, AT + timedelta(hours=47))
    refused(EVENT, AT + timedelta(hours=49))
    verify(EVENT, AT - timedelta(minutes=4))
    refused(EVENT, AT - timedelta(minutes=6))


@pytest.fixture
def proofing(world: World, sumsub_client: VendorClient) -> SumsubProofing:
    return SumsubProofing(sumsub_client, world.sumsub)


def read(world: World, received: Received) -> WebhookEvent:
    return SumsubWebhooks(world.sumsub).verify(received.headers, received.body)


async def test_the_sandbox_tells_of_every_change(
    world: World, sumsub_control: Control, proofing: SumsubProofing, case_id: str
) -> None:
    reference = await proofing.open_case(case_id)
    await sumsub_control("POST", f"/applicants/{case_id}/evidence", verdict={})
    await sumsub_control("POST", f"/applicants/{case_id}/verdict", reviewAnswer="RED", reviewRejectType="FINAL")
    await proofing.erase(reference)
    await sumsub_control("DELETE", f"/applicants/{case_id}")
    events = [read(world, each) for each in await world.receiver.about(case_id, 8)]
    assert sorted(event.kind for event in events) == sorted(
        [
            "applicantCreated",
            "applicantPending",
            "applicantPrechecked",
            "applicantReviewed",
            "applicantReviewed",
            "applicantDeactivated",
            "applicantPersonalDataDeleted",
            "applicantDeleted",
        ]
    )
    assert {event.case_id for event in events} == {case_id}
    assert len({event.delivery_id for event in events}) == 8


@pytest.mark.parametrize("kind", ["wrong_digest", "unknown_algorithm", "missing_header", "altered"])
async def test_a_forged_or_altered_event_is_refused(
    world: World, sumsub_control: Control, proofing: SumsubProofing, case_id: str, kind: str
) -> None:
    await sumsub_control("POST", "/webhook-faults", kind=kind)
    await proofing.open_case(case_id)
    (received,) = await world.receiver.about(case_id, 1)
    with pytest.raises(DomainError, match="webhook_invalid"):
        read(world, received)


async def test_events_come_twice_out_of_order_late_in_new_words_or_not_at_all(
    world: World, sumsub_control: Control, proofing: SumsubProofing, case_id: str
) -> None:
    await sumsub_control("POST", "/webhook-faults", kind="repeated", type="applicantCreated")
    await sumsub_control("POST", "/webhook-faults", kind="lost", type="applicantPrechecked")
    await sumsub_control("POST", "/webhook-faults", kind="swapped", type="applicantPending")
    await sumsub_control("POST", "/webhook-faults", kind="old", type="applicantReviewed")
    await sumsub_control("POST", "/webhook-faults", kind="unknown_type", type="applicantReviewed")
    await proofing.open_case(case_id)
    verdict = {"rejectLabels": ["SOMETHING_NEW"], "reviewAnswer": "RED", "reviewRejectType": "RETRY"}
    await sumsub_control("POST", f"/applicants/{case_id}/evidence", verdict=verdict)
    await sumsub_control("POST", f"/applicants/{case_id}/verdict")
    events = [read(world, each) for each in await world.receiver.about(case_id, 5)]
    created = [event for event in events if event.kind == "applicantCreated"]
    assert len(created) == 2
    assert created[0].delivery_id == created[1].delivery_id
    kinds = [event.kind for event in events if event.kind != "applicantCreated"]
    assert sorted(kinds) == ["applicantPending", "applicantReviewed", "applicantSomethingNew"]
    assert kinds.index("applicantReviewed") < kinds.index("applicantPending")
    (old,) = [event for event in events if event.kind == "applicantReviewed"]
    assert old.sent_at < created[0].sent_at


async def test_what_was_not_taken_comes_again(
    world: World, sumsub_control: Control, proofing: SumsubProofing, case_id: str
) -> None:
    world.receiver.statuses[:] = [500, 302]
    await proofing.open_case(case_id)
    events = [read(world, each) for each in await world.receiver.about(case_id, 3)]
    assert len({event.delivery_id for event in events}) == 1


async def test_what_was_not_taken_in_time_comes_again(case_id: str) -> None:
    async with open_world(webhook_timeout_s=0.3) as world, open_vendor_client(world.sumsub.base_url) as client:
        world.receiver.silent = 1
        await SumsubProofing(client, world.sumsub).open_case(case_id)
        first, second = (await world.receiver.about(case_id, 2))[:2]
        assert read(world, first).delivery_id == read(world, second).delivery_id
        control = Control(client)
        async with asyncio.timeout(WITHIN_S):
            while not (found := (await control("GET", "/webhooks"))[0])["over"]:
                await asyncio.sleep(0.01)
        assert found["answers"][0] == 0
        assert found["answers"][-1] == 204
