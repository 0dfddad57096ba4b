"""The service `webhooks` as it runs: what a vendor sends is kept, and what waits to be kept is seen."""

import json
import secrets
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import httpx

from api.webhooks.composition import compose
from domain.ids import new_registration_id, proofing_case_id
from integrations.identity.sumsub.webhook import payload_digest
from integrations.postgres.roles import IDENTITY
from integrations.telemetry.telemetry import make_telemetry
from integrations.vendor_settings import SumsubSettings
from tests.conftest import OwnerPool, SettingsFor

SECRET = "a secret of webhooks"
SUMSUB = SumsubSettings(
    base_url="http://127.0.0.1:1", app_token="sbx:a.b", secret_key="s", level="l", webhook_secret=SECRET
)


def event(delivery: str) -> bytes:
    fields = {
        "applicantId": "5cb744200a975a67ed1798a4",
        "externalUserId": proofing_case_id(new_registration_id("eu"), 1),
        "correlationId": delivery,
        "type": "applicantReviewed",
        "createdAtMs": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
    }
    return json.dumps(fields).encode()


async def test_webhooks_that_wait_to_be_kept_are_seen_of_every_cell(
    settings_for: SettingsFor, owner_pool: OwnerPool
) -> None:
    settings = settings_for(IDENTITY, sumsub=SUMSUB)
    kept, count = await owner_pool("eu"), "SELECT count(*) FROM identity.webhook"
    async with AsyncExitStack() as lifetime:
        service = await compose(settings, lifetime, make_telemetry(settings, "webhooks"))
        transport = httpx.ASGITransport(service.app)
        client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://webhooks"))
        before, body = await kept.fetchval(count), event(secrets.token_hex(16))
        digest = payload_digest(SECRET.encode(), "HMAC_SHA256_HEX", body)
        signed = {"x-payload-digest": digest, "x-payload-digest-alg": "HMAC_SHA256_HEX"}
        headers = {"content-type": "application/json", **signed}
        answer = await client.post("/v1/webhooks/sumsub", content=body, headers=headers)
        assert answer.is_success, answer.text
        assert await kept.fetchval(count) == before + 1
        assert 'webhooks_waiting{cell="eu"} 0.0' in (await client.get("/metrics")).text
