"""People who register over HTTP: a service, its workers and sandboxes of the vendors."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest_asyncio
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from temporalio.worker import Worker

from activities.claims import ClaimActivities
from api.auth.registration_routes import registration_routes
from api.auth.registrations import RegistrationDesk, Vendors
from api.http.application import create_application
from api.http.limits_opening import open_limits
from api.webhooks.app import create_app
from api.webhooks.intake import WebhookIntake
from domain.mailing import MessageKind
from domain.proofing import IdentityProofing
from domain.registrations import ENDED
from integrations.challenges.client import open_turnstile
from integrations.devices.client import open_fingerprint
from integrations.identity.delivering import EvidenceDelivery
from integrations.identity.opening import open_providers, webhook_verifiers
from integrations.identity.policy import registration_policy
from integrations.identity_cell import KEYS, IdentityCell, document_claims, identity_pools, open_identity_cell
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import LIMITS, REGISTRATION
from integrations.keys.registration_secrets import RegistrationSecrets
from integrations.postgres.roles import IDENTITY, STAFFING, UNMASKING
from integrations.sandboxes.mounting import mount, open_sandboxes
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.registrations import TemporalRegistrations
from integrations.temporal.worker import sandbox
from integrations.vendor_settings import (
    FingerprintSettings,
    LettersSettings,
    ProofingSettings,
    SandboxSettings,
    SumsubSettings,
    TurnstileSettings,
)
from tests.conftest import SettingsFor
from tests.limits_world import lonely_limits
from tests.workflows.registration_ports import Mail
from workers.identity import registration_activities
from workflows.register_voter import RegisterVoterWorkflow
from workflows.verify_identity import VerifyIdentityWorkflow

CELLS = ("eu", "us")
BY_LETTER = "DE-BY"  # the region that is proofed without biometrics
WITHIN_S = 40.0


@dataclass
class Town:
    """A service, its workers, its vendors, and the mail of everybody in it."""

    settings: Settings
    client: httpx.AsyncClient
    vendor: httpx.AsyncClient
    cells: dict[str, IdentityCell]
    deliveries: dict[str, EvidenceDelivery]
    mail: Mail
    claims: dict[str, Any]
    intake: WebhookIntake
    secrets: dict[str, str] = field(default_factory=dict)  # of registrations, as their first answers gave them

    def of(self, registration: str) -> dict[str, str]:
        """Return what the person of a registration sends with every request; nothing for one without a secret."""
        secret = self.secrets.get(registration)
        return {} if secret is None else {"authorization": f"Bearer {secret}"}

    async def send(self, method: str, registration: str, path: str = "", **body: Any) -> httpx.Response:
        """Call as the person of a registration."""
        headers, json_body = self.of(registration), None if method in {"GET", "DELETE"} else body
        return await self.client.request(
            method, f"/v1/registrations/{registration}{path}", headers=headers, json=json_body
        )

    async def control(self, vendor: str, path: str, **body: Any) -> Any:
        answer = await self.vendor.post(f"/{vendor}/_control/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def begin(self, cell: str = "eu", *, profile: str = "clean_browser", **fields: Any) -> httpx.Response:
        nonce = secrets.token_hex(16)
        token = await self.control("turnstile", "tokens", action="register", cdata=nonce)
        event = await self.control("fingerprint", "events", profile=profile, linkedId=nonce, readableAfterMs=0)
        body = {
            "cell": cell,
            "region": "DE",
            "mail": f"{secrets.token_hex(4)}@example.org",
            "challengeToken": token["token"],
            "challengeNonce": nonce,
            "deviceEventId": event["eventId"],
            **fields,
        }
        answer = await self.client.post("/v1/registrations", json=body)
        if answer.status_code == 201:
            self.secrets[answer.json()["registrationId"]] = answer.json()["registrationSecret"]
        return answer

    async def at(self, registration: str, *stages: str) -> dict[str, Any]:
        """Wait until a registration is at one of these stages, and return it."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                answer = await self.send("GET", registration)
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                if found["stage"] in stages:
                    return found
                assert found["stage"] not in ENDED, found
                await asyncio.sleep(0.05)

    async def prove(self, registration: str, mail: str) -> None:
        def codes() -> list[str]:
            sent = self.mail.of(MessageKind.PROVE_CONTACT)
            return [message.code for message in sent if message.to == mail and message.key.startswith(registration)]

        async with asyncio.timeout(WITHIN_S):
            while not codes():
                await asyncio.sleep(0.02)
            while True:  # the mail may be faster than the report of its sending
                answer = await self.send("POST", registration, "/contact", code=codes()[-1])
                if answer.status_code == 200:
                    return
                assert answer.json()["code"] == "code_wrong", answer.text
                await asyncio.sleep(0.2)

    async def at_provider(self, registration: str, case_no: int = 1) -> None:
        """Wait until a case is open at the provider."""
        async with asyncio.timeout(WITHIN_S):
            while not ((row := await self.row(registration)).reference and row.case_no == case_no):
                await asyncio.sleep(0.05)

    async def proofed(self, cell: str, number: str, **verdict: Any) -> dict[str, Any]:
        """Register somebody with a document up to the provider's verdict, and return the end."""
        mail = f"{secrets.token_hex(4)}@example.org"
        begun = await self.begin(cell, mail=mail)
        assert begun.status_code == 201, begun.text
        registration: str = begun.json()["registrationId"]
        await self.prove(registration, mail)
        await self.at_provider(registration)
        await self.show(registration, number, **verdict)
        return await self.at(registration, "active", "refused", "rejected")

    async def show(self, registration: str, number: str, *, case_no: int = 1, **verdict: Any) -> None:
        answer = {"reviewAnswer": "GREEN", **verdict}
        await self.control("sumsub", f"applicants/{registration}-{case_no}/evidence", number=number, verdict=answer)

    async def take_back(self, registration: str) -> None:
        """Have the provider reject at last whom it has approved."""
        verdict = {"reviewAnswer": "RED", "rejectLabels": ["FORGERY"], "reviewRejectType": "FINAL"}
        await self.control("sumsub", f"applicants/{(await self.row(registration)).reference}/verdict", **verdict)

    async def row(self, registration: str) -> Any:
        found = await self.cells[registration.split("_")[1]].registrations.get(registration)
        assert found is not None
        return found


def vendor_client(address: str) -> httpx.AsyncClient:
    """Return what controls the sandboxes; it gives an idle connection up before they do, which is after 5 s."""
    limits = httpx.Limits(keepalive_expiry=1)
    return httpx.AsyncClient(base_url=address, timeout=20, trust_env=False, limits=limits)


def vendors_of(address: str) -> dict[str, Any]:
    return {
        "sumsub": SumsubSettings(
            base_url=f"{address}/sumsub",
            app_token="sbx:public.private",
            secret_key="a secret",
            level="basic level",
            webhook_secret="another secret",
        ),
        "letters": LettersSettings(base_url=f"{address}/letters", api_key="a key", webhook_secret="a third secret"),
        "proofing": ProofingSettings(by_region={BY_LETTER: "letters"}),
        "fingerprint": FingerprintSettings(
            base_url=f"{address}/fingerprint/eu/v4",
            api_key="sk-eu",
            timeout_s=20,
            origins=frozenset({"https://vote.example", "android:org.example.vote"}),
        ),
        "turnstile": TurnstileSettings(
            base_url=f"{address}/turnstile/v0",
            secret="a fourth secret",
            hostnames=frozenset({"localhost"}),
            timeout_s=20,
        ),
        "sandboxes": SandboxSettings(
            webhooks_url=f"{address}/hooks/v1/webhooks", webhook_timeout_s=20, resend_after_s=(0.05, 0.2)
        ),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(settings_for: SettingsFor) -> AsyncIterator[Town]:
    mounted: dict[str, Any] = {}

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted["app"](scope, receive, send)

    async with AsyncExitStack() as lifetime:
        address = await lifetime.enter_async_context(serve_sandboxes(late))
        settings = settings_for(IDENTITY, STAFFING, UNMASKING, **vendors_of(address))
        town = await open_town(settings, lifetime, address)
        hooks = create_app(town.intake, lonely_limits(), telemetry=make_telemetry(settings, "webhooks"))
        mounted["app"] = mount({**await open_sandboxes(settings, lifetime), "hooks": hooks})
        await town.vendor.put("/fingerprint/_control/limits", json={"perSecond": 10_000, "burst": 10_000})
        yield town


async def open_town(settings: Settings, lifetime: AsyncExitStack, address: str) -> Town:
    keys = open_keys(settings, *KEYS, REGISTRATION, LIMITS)
    hashes, policy, mail = KeyedLookupHashes(keys), registration_policy(settings), Mail()
    telemetry = make_telemetry(settings, "auth")
    pools = await identity_pools(settings, lifetime)
    claims: dict[str, Any] = dict(document_claims(pools))
    providers = await open_providers(settings, lifetime)
    queue, cells = f"identity-{secrets.token_hex(4)}", {}
    for name in CELLS:
        opened = await open_identity_cell(name, settings, keys, pools[name], telemetry)
        cells[name] = replace(
            opened, processes=TemporalRegistrations(opened.temporal, name, queue=queue, patience_s=20)
        )
        await lifetime.enter_async_context(worker_of(cells[name], queue, hashes, mail, providers, claims))
    assert settings.turnstile is not None
    assert settings.fingerprint is not None
    vendors = Vendors(
        providers,
        await lifetime.enter_async_context(open_turnstile(settings.turnstile)),
        await lifetime.enter_async_context(open_fingerprint(settings.fingerprint)),
    )
    secrets_made = RegistrationSecrets(keys)
    desk = RegistrationDesk(CELLS, lambda name: cells[name or ""], hashes, vendors, policy, secrets=secrets_made)
    deliveries = {
        name: EvidenceDelivery(cell.registrations, cell.inbox, cell.processes, policy) for name, cell in cells.items()
    }
    intake = WebhookIntake(webhook_verifiers(settings), lambda name: deliveries[name or ""])
    lifetime.push_async_callback(intake.close)
    limits = await open_limits(settings, keys, lifetime, telemetry)
    app: FastAPI = create_application("auth", telemetry)
    app.include_router(registration_routes(desk, limits))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://auth"))
    vendor = await lifetime.enter_async_context(vendor_client(address))
    return Town(settings, client, vendor, cells, deliveries, mail, claims, intake)


def worker_of(
    cell: IdentityCell,
    queue: str,
    hashes: KeyedLookupHashes,
    mail: Mail,
    providers: Mapping[str, IdentityProofing],
    claims: dict[str, Any],
) -> Worker:
    known: dict[str, IdentityProofing] = dict(providers)
    return Worker(
        cell.temporal,
        task_queue=queue,
        workflows=[RegisterVoterWorkflow, VerifyIdentityWorkflow],
        activities=[
            *registration_activities(cell, hashes, known, mail),
            *ClaimActivities(claims).all(),
        ],
        workflow_runner=sandbox(),
    )


def number() -> str:
    return secrets.token_hex(5).upper()
