"""A town whose people lose and delete their accounts, over HTTP."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest_asyncio
from fastapi import Request
from starlette.types import Receive, Scope, Send
from temporalio.worker import Worker

from activities.claims import ClaimActivities
from api.auth.account_routes import account_routes
from api.auth.cells import AuthCells
from api.auth.deletions import DeletionDesk
from api.auth.new_passwords import NewPasswords
from api.auth.recovery import RecoveryAsked, RecoveryDesk
from api.auth.sessions import SessionDesk
from api.http.application import create_application
from api.http.limits_opening import open_limits
from api.webhooks.app import create_app
from domain.accounts import LookupHashes
from domain.ids import new_session_id
from domain.mailing import MessageKind
from domain.proofing import IdentityProofing
from domain.sessions import LoginMethod, NewSession
from domain.tokens import ACCESS_ISSUER, Assurance, Confirmation, RiskBand, VoterClaims
from integrations.challenges.client import open_turnstile
from integrations.devices.client import FingerprintDevices, open_fingerprint
from integrations.identity.opening import open_providers
from integrations.identity_cell import KEYS
from integrations.keys.access_tokens import VoterTokens
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import LIMITS
from integrations.login.breaches import open_breaches
from integrations.login.passwords import Passwords
from integrations.postgres.roles import IDENTITY
from integrations.sandboxes.mounting import mount, open_sandboxes
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.accounts import TemporalAccounts
from integrations.temporal.worker import sandbox
from integrations.vendor_settings import BreachesSettings, PasskeySettings
from tests.api.auth.registration_town import CELLS, WITHIN_S, Town, number, open_town, vendors_of
from tests.conftest import OwnerPool, SettingsFor
from tests.identity_world import IdentityWorld
from tests.integrations.login.authenticator import ORIGIN, RP_ID
from tests.limits_world import lonely_limits
from workers.identity import account_activities, registration_activities
from workflows.delete_account import DeleteAccountWorkflow
from workflows.recover_account import RecoverAccountWorkflow

PAGE = "https://vote.example.org/recover"


@dataclass
class Village:
    """A town whose people lose and delete their accounts."""

    town: Town
    client: httpx.AsyncClient
    desk: SessionDesk
    cells: AuthCells
    owner_pool: OwnerPool
    recovery_over: Callable[..., RecoveryDesk]

    async def voter(self, document: str = "", cell: str = "eu") -> tuple[str, str]:
        """Return a registration that has led to an active voter, and that voter."""
        ended = await self.town.proofed(cell, document or number())
        assert ended["stage"] == "active", ended
        registration = ended["registrationId"]
        return registration, (await self.town.row(registration)).voter_id

    async def log_in(self, voter: str) -> str:
        """Return the session of a login."""
        cell = voter.split("_")[1]
        session = NewSession(
            new_session_id(cell), voter, "k" * 43, LoginMethod.PASSKEY, Assurance.SUBSTANTIAL, RiskBand.LOW
        )
        await self.desk.open(session)
        return session.session_id

    async def mail_of(self, voter: str) -> str:
        data = await self.town.cells[voter.split("_")[1]].records.get(voter)
        assert data is not None
        return data.fields["mail"]

    async def ask(self, mail: str, *, profile: str = "clean_browser", **fields: Any) -> httpx.Response:
        """Ask for a link as somebody with a browser does."""
        asked = await self.asked(mail, profile)
        body = {
            "mail": asked.mail,
            "challengeToken": asked.challenge_token,
            "challengeNonce": asked.nonce,
            "deviceEventId": asked.device_event_id,
            **fields,
        }
        return await self.client.post("/v1/account/recovery", json=body)

    async def asked(self, mail: str, profile: str = "clean_browser") -> RecoveryAsked:
        """Return what a browser asks with."""
        nonce = secrets.token_hex(16)
        token = await self.town.control("turnstile", "tokens", action="recover", cdata=nonce)
        event = await self.town.control("fingerprint", "events", profile=profile, linkedId=nonce, readableAfterMs=0)
        return RecoveryAsked(mail, token["token"], nonce, event["eventId"], "127.0.0.1")

    async def link_to(self, mail: str, nth: int = 1) -> str:
        """Return the token of the n-th different link that an address got."""
        async with asyncio.timeout(WITHIN_S):
            while len(found := [m for m in self.town.mail.of(MessageKind.RECOVERY) if m.to == mail]) < nth:
                await asyncio.sleep(0.02)
        page, _, token = found[nth - 1].link.partition("#")
        assert page == PAGE
        return token

    async def told(self, kind: MessageKind, mail: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not [m for m in self.town.mail.of(kind) if m.to == mail]:
                await asyncio.sleep(0.02)

    async def delete(self, voter: str, session: str) -> httpx.Response:
        return await self.client.delete("/v1/account", headers={"as": f"{voter} {session}"})

    async def deleted(self, voter: str, session: str) -> dict[str, Any]:
        """Delete an account, and return the certificate."""
        begun = await self.delete(voter, session)
        assert begun.status_code == 202, begun.text
        async with asyncio.timeout(WITHIN_S):
            while True:
                answer = await self.client.get(f"/v1/account/deletions/{begun.json()['deletionId']}")
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                if found["stage"] == "completed":
                    return found
                await asyncio.sleep(0.05)


async def said(request: Request) -> VoterClaims:
    """Believe who says which session it is: tokens and proofs are tested with sessions."""
    voter, session = request.headers["as"].split()
    return VoterClaims(
        iss=ACCESS_ISSUER,
        aud="voters",
        scope="voter",
        iat=0,
        exp=0,
        cnf=Confirmation("k" * 43),
        sub=voter,
        jti="j",
        sid=session,
        cell=voter.split("_")[1],
        region="DE",
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def village(
    settings_for: SettingsFor, identity_world: IdentityWorld, owner_pool: OwnerPool
) -> AsyncIterator[Village]:
    mounted: dict[str, Any] = {}

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted["app"](scope, receive, send)

    async with AsyncExitStack() as lifetime:
        address = await lifetime.enter_async_context(serve_sandboxes(late))
        settings = settings_for(
            IDENTITY,
            **vendors_of(address),
            breaches=BreachesSettings(base_url=f"{address}/breaches", timeout_s=20),
            passkeys=PasskeySettings(rp_id=RP_ID, origins=(ORIGIN,)),
        )
        town = await open_town(settings, lifetime, address)
        hooks = create_app(town.intake, lonely_limits(), telemetry=make_telemetry(settings, "webhooks"))
        mounted["app"] = mount({**await open_sandboxes(settings, lifetime), "hooks": hooks})
        await town.vendor.put("/fingerprint/_control/limits", json={"perSecond": 10_000, "burst": 10_000})
        yield await settle(settings, town, lifetime, identity_world, owner_pool)


async def settle(
    settings: Settings, town: Town, lifetime: AsyncExitStack, identity_world: IdentityWorld, owner_pool: OwnerPool
) -> Village:
    keys, telemetry = open_keys(settings, *KEYS, LIMITS), make_telemetry(settings, "auth")
    hashes, queue = KeyedLookupHashes(keys), f"accounts-{secrets.token_hex(4)}"
    cells = AuthCells(settings, keys, waiting=telemetry.waiting)
    await cells.open(lifetime)
    desk = SessionDesk(cells, VoterTokens(identity_world.tokens.signers[0]))
    assert settings.turnstile is not None
    assert settings.fingerprint is not None
    assert settings.breaches is not None
    challenges = await lifetime.enter_async_context(open_turnstile(settings.turnstile))
    devices = await lifetime.enter_async_context(open_fingerprint(settings.fingerprint))
    passwords = NewPasswords(Passwords(), await lifetime.enter_async_context(open_breaches(settings.breaches)))
    providers = await open_providers(settings, lifetime)
    for name, cell in town.cells.items():
        processes = TemporalAccounts(cell.temporal, name, queue=queue, patience_s=20)
        town.cells[name] = replace(cell, account_processes=processes)
        await lifetime.enter_async_context(worker_of(town, name, queue, hashes, providers, devices))

    def cell_of(name: str | None) -> Any:
        return town.cells[name or ""]

    def recovery_over(
        reached: Callable[[str | None], Any], auth: Any = cells, hashed: LookupHashes = hashes
    ) -> RecoveryDesk:
        return RecoveryDesk(
            CELLS,
            auth,
            reached,
            hashes=hashed,
            challenges=challenges,
            devices=devices,
            sessions=desk,
            passwords=passwords,
        )

    app = create_application("auth", telemetry)
    limits = await open_limits(settings, keys, lifetime, telemetry)
    app.include_router(account_routes(recovery_over(cell_of), DeletionDesk(CELLS, cells, cell_of), said, limits, CELLS))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://auth"))
    return Village(town, client, desk, cells, owner_pool, recovery_over)


def worker_of(
    town: Town,
    name: str,
    queue: str,
    hashes: KeyedLookupHashes,
    providers: Mapping[str, IdentityProofing],
    devices: FingerprintDevices,
) -> Worker:
    cell = town.cells[name]
    return Worker(
        cell.temporal,
        task_queue=queue,
        workflows=[RecoverAccountWorkflow, DeleteAccountWorkflow],
        activities=[
            *registration_activities(cell, hashes, providers, town.mail),
            *ClaimActivities(town.claims).all(),
            *account_activities(cell, hashes, town.mail, devices, PAGE),
        ],
        workflow_runner=sandbox(),
    )
