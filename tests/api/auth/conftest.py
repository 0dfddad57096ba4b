"""The service `auth` as it runs, over the databases and Redis of two cells."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio

from api.auth.cells import AuthCells
from api.auth.composition import compose
from api.auth.login_room import LoginRoom
from api.auth.sessions import SessionDesk, Tokens
from api.http.serving import serve
from domain.ids import cell_of_voter, new_session_id
from domain.sessions import LoginMethod, NewSession
from domain.tokens import Assurance, RiskBand
from integrations.keys.access_tokens import VoterTokens
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.opening import open_keys
from integrations.keys.purposes import KEK_PERSONAL, LOOKUP
from integrations.postgres.roles import IDENTITY, ROLLS, SURVEYS
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.vendor_settings import BreachesSettings, PasskeySettings
from tests.api.auth.registration_town import town
from tests.api.auth.village import village
from tests.conftest import SettingsFor
from tests.identity_world import IdentityWorld, open_identity_world
from tests.integrations.login.authenticator import ORIGIN, RP_ID
from tests.integrations.vendor_sandboxes import Vendor, open_vendor
from tests.provider_world import IssuerServer, issuer_server

__all__ = ["town", "village"]

PUBLIC_URL = "http://auth.test"


@dataclass
class LoggedIn:
    """A client with its key and what it goes on with."""

    voter_id: str
    key: ProofKey
    tokens: Tokens


@dataclass(frozen=True)
class Auth:
    """A running service, and logins without a login."""

    client: httpx.AsyncClient
    world: IdentityWorld
    desk: SessionDesk
    cells: AuthCells
    provider: IssuerServer
    breaches: Vendor

    async def log_in(self, voter_id: str = "", cell: str = "eu", **fields: Any) -> LoggedIn:
        """Open a session of a voter, or of a new one."""
        voter_id = voter_id or await self.world.voter(cell)
        key = ProofKey.generate()
        login = NewSession(
            session_id=new_session_id(cell_of_voter(voter_id) or ""),
            voter_id=voter_id,
            jkt=key.jkt,
            method=LoginMethod.PASSKEY,
            assurance=Assurance.SUBSTANTIAL,
            risk=RiskBand.LOW,
            **fields,
        )
        return LoggedIn(voter_id, key, await self.desk.open(login))

    async def refresh(self, token: str, key: ProofKey, **fields: Any) -> httpx.Response:
        """Use a refresh token with a key."""
        body = httpx.Request("POST", "/", json={"refreshToken": token}).content
        proof = make_proof(key, "POST", f"{PUBLIC_URL}/v1/auth/token", fields.pop("now", time.time()), body=body)
        headers = {"dpop": proof, "content-type": "application/json", **fields}
        return await self.client.post("/v1/auth/token", content=body, headers=headers)

    async def call(self, login: LoggedIn, method: str, path: str, body: bytes = b"") -> httpx.Response:
        """Call as somebody who is logged in."""
        token = login.tokens.access_token
        proof = make_proof(login.key, method, PUBLIC_URL + path, time.time(), token=token, body=body)
        headers = {"authorization": f"DPoP {token}", "dpop": proof}
        if body:
            headers["content-type"] = "application/json"
        return await self.client.request(method, path, headers=headers, content=body)


@asynccontextmanager
async def auth_service(settings: Settings, room: LoginRoom | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Compose and serve the service until the end of the block."""
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    telemetry = make_telemetry(settings, "auth")
    async with AsyncExitStack() as lifetime:
        service = await compose(settings, lifetime, telemetry, room=room)
        serving = asyncio.create_task(
            serve(service, telemetry, stop, on_started=lambda host, port: listening.set_result(f"http://{host}:{port}"))
        )
        async with httpx.AsyncClient(base_url=await listening, timeout=30) as client:
            yield client
        stop.set()
        await serving


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def identity_world(settings_for: SettingsFor) -> AsyncIterator[IdentityWorld]:
    async with open_identity_world(settings_for(IDENTITY, ROLLS, SURVEYS), ("eu", "us")) as world:
        yield world


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def auth(settings_for: SettingsFor, identity_world: IdentityWorld) -> AsyncIterator[Auth]:
    """The service, and a desk of another process that opens sessions as a login will."""
    async with AsyncExitStack() as lifetime:
        provider = await lifetime.enter_async_context(issuer_server())
        nowhere = BreachesSettings(base_url="http://127.0.0.1:1")
        breaches = await lifetime.enter_async_context(open_vendor("breaches", breaches=nowhere))
        settings = settings_for(
            IDENTITY,
            public_url=PUBLIC_URL,
            identity_providers={"sandbox": provider.settings},
            breaches=BreachesSettings(base_url=breaches.url, timeout_s=10),
            passkeys=PasskeySettings(rp_id=RP_ID, origins=(ORIGIN,)),
        )
        telemetry = make_telemetry(settings, "auth-beside")
        keys = open_keys(settings, KEK_PERSONAL, LOOKUP)
        cells = AuthCells(settings, keys, waiting=telemetry.waiting)
        await cells.open(lifetime)
        desk = SessionDesk(cells, VoterTokens(identity_world.tokens.signers[0]))
        client = await lifetime.enter_async_context(auth_service(settings))
        yield Auth(client, identity_world, desk, cells, provider, breaches)
