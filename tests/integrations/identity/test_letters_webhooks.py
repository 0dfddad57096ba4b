import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from domain.errors import DomainError
from domain.webhooks import WebhookEvent, WebhookVerifier
from integrations.identity.letters.client import LettersProofing
from integrations.identity.letters.webhook import LettersWebhooks, webhook_signature
from integrations.vendor_http import VendorClient
from integrations.vendor_settings import LettersSettings
from tests.integrations.identity.conftest import Control, Received, World

SECRET = "a secret"
NOW = 1_772_600_000
EVENT = {
    "eventId": "le_1",
    "type": "case.decided",
    "caseId": "r_eu_abcdefghijklmnopqrstuvwxyz-1",
    "createdAt": "2026-03-01T05:06:07.5+01:00",
}


def verify(event: Any, *, at: str = str(NOW), now: float = NOW, **headers: str) -> WebhookEvent:
    settings = LettersSettings.model_validate(
        {"base_url": "https://vendor.example", "api_key": "k", "webhook_secret": SECRET}
    )
    verifier: WebhookVerifier = LettersWebhooks(settings, lambda: now)
    body = event if isinstance(event, bytes) else msgspec.json.encode(event)
    signature = webhook_signature(SECRET.encode(), at, body) if at.isascii() else ""
    return verifier.verify({"x-letters-timestamp": at, "x-letters-signature": signature, **headers}, body)


def test_a_signature_is_over_time_and_body() -> None:
    # printf '1772600000.{}' | openssl dgst -sha256 -hmac 'a secret'
    expected = "b4d8d26ec3e130f4cd4939b45b78f3ed9990992179d6250587c7ab4e015b70dd"
    assert webhook_signature(SECRET.encode(), "1772600000", b"{}") == expected


def test_an_event_is_a_hint_known_again_by_its_id() -> None:
    event = verify(EVENT)
    assert (event.vendor, event.case_id, event.kind) == ("letters", EVENT["caseId"], "case.decided")
    assert event.sent_at == datetime(2026, 3, 1, 4, 6, 7, 500000, UTC)
    assert verify({**EVENT, "type": "case.somethingnew", "more": 1}).delivery_id == event.delivery_id
    assert verify({**EVENT, "eventId": "le_2"}).delivery_id != event.delivery_id
    assert verify(EVENT, now=NOW + 299).delivery_id == event.delivery_id


@pytest.mark.parametrize(
    ("event", "more"),
    [
        (EVENT, {"x-letters-signature": ""}),
        (EVENT, {"x-letters-signature": "\u00e9"}),
        (EVENT, {"x-letters-signature": "0" * 64}),
        (EVENT, {"x-letters-timestamp": ""}),
        (EVENT, {"x-letters-timestamp": str(NOW + 1)}),
        (EVENT, {"at": "soon"}),
        (EVENT, {"at": "\u0661"}),
        (EVENT, {"at": "9" * 12}),
        (EVENT, {"now": NOW + 301}),
        (EVENT, {"now": NOW - 301}),
        (b"", {}),
        (b"[" * 100_000, {}),
        ({**EVENT, "caseId": ""}, {}),
        ({**EVENT, "eventId": "a b"}, {}),
        ({**EVENT, "type": "A"}, {}),
        ({**EVENT, "createdAt": "2026-03-01T05:06:07"}, {}),
        (msgspec.json.encode({**EVENT, "filling": "a" * 300_000}), {}),
    ],
    ids=range(17),
)
def test_what_is_forged_late_or_no_event_is_refused(event: Any, more: dict[str, Any]) -> None:
    with pytest.raises(DomainError, match="webhook_invalid"):
        verify(event, **more)


def read(world: World, received: Received) -> WebhookEvent:
    return LettersWebhooks(world.letters, time.time).verify(received.headers, received.body)


async def test_the_sandbox_tells_of_every_change_and_errs_on_request(
    world: World, letters: LettersProofing, letters_client: VendorClient, case_id: str
) -> None:
    control = Control(letters_client)
    await control("POST", "/webhook-faults", kind="repeated")
    await letters.open_case(case_id)
    for kind in ("wrong_signature", "stale", "lost"):
        await control("POST", "/webhook-faults", kind=kind)
        await control("POST", f"/cases/{case_id}/failing")
    await letters.erase(await letters.open_case(case_id))
    kinds, refused = [], 0
    for received in await world.receiver.about(case_id, 5):
        try:
            kinds.append(read(world, received).kind)
        except DomainError:
            refused += 1
    assert (sorted(kinds), refused) == (["case.erased", "case.opened", "case.opened"], 2)
