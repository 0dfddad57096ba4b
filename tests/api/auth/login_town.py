"""Everything that a login meets: the service itself, sandboxes of its vendors over HTTP, and real mail."""

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
from starlette.types import Receive, Scope, Send

from api.auth.login_room import LoginRoom
from domain.accounts import LookupKind, PersonalData
from domain.credentials import CredentialKind
from domain.eligibility import VoterStatus
from domain.federation import login_of
from domain.ids import cell_of_voter
from domain.logins import LoginAttempt
from domain.registration import MAIL_FIELD
from integrations.identity_cell import identity_pools
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.login.passwords import Passwords
from integrations.mail.sandbox import MailServer
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.roles import IDENTITY
from integrations.sandboxes.mounting import mount
from integrations.sandboxes.registry import find_sandbox
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Settings
from integrations.vendor_settings import (
    BreachesSettings,
    FingerprintSettings,
    IdentityProviderSettings,
    MailSettings,
    PasskeySettings,
    TurnstileSettings,
)
from tests.api.auth.conftest import PUBLIC_URL, Auth, auth_service
from tests.api.auth.registration_town import vendor_client
from tests.conftest import SettingsFor
from tests.integrations.login.authenticator import ORIGIN, RP_ID

PASSWORD = "a horse that is correct about staples"
WITHIN_S = 20.0
_CODE = re.compile(r"\b[0-9]{8}\b")


@dataclass
class Person:
    """Somebody with an account, a device and a client's key."""

    voter_id: str
    mail: str
    device: str = field(default_factory=lambda: secrets.token_hex(6))
    key: ProofKey = field(default_factory=ProofKey.generate)
    user_agent: str = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"

    @property
    def cell(self) -> str:
        return cell_of_voter(self.voter_id) or ""


@dataclass
class LoginTown:
    """The service, and what people do to log in to it."""

    auth: Auth
    client: httpx.AsyncClient
    vendors: httpx.AsyncClient
    mail: MailServer
    logins: dict[str, PostgresLogins]
    passwords: Passwords = field(default_factory=Passwords)

    async def control(self, vendor: str, path: str, *, method: str = "POST", **body: Any) -> Any:
        answer = await self.vendors.request(method, f"/{vendor}/_control/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def person(self, cell: str = "eu", *, password: str = "", status: VoterStatus | None = None) -> Person:
        """Make an active voter with an address, and with a password where one is given."""
        voter_id, mail = await self.auth.world.voter(cell), f"{secrets.token_hex(5)}@example.org"
        kept = self.auth.cells.of(cell)
        await kept.records.put(voter_id, PersonalData({MAIL_FIELD: mail}))
        hashes = await self.auth.cells.hashes.every(LookupKind.MAIL, mail)
        assert await kept.accounts.add_lookup(voter_id, LookupKind.MAIL, hashes)
        if password:
            await kept.credentials.put(voter_id, CredentialKind.PASSWORD, await self.passwords.hash(password))
        if status is not None:
            await kept.accounts.set_status(voter_id, status, "test")
        return Person(voter_id, mail)

    async def knows_at_provider(self, person: Person, issuer: str, subject: str) -> None:
        hashes = await self.auth.cells.hashes.every(LookupKind.LOGIN, login_of(issuer, subject))
        kept = self.auth.cells.of(person.cell)
        assert await kept.accounts.add_lookup(person.voter_id, LookupKind.LOGIN, hashes)

    async def totp(self, person: Person) -> pyotp.TOTP:
        """Give somebody an authenticator app, confirmed by the code of the step before."""
        kept = self.auth.cells.of(person.cell)
        secret = parse_qs(urlsplit(await kept.totp.enrol(person.voter_id, "account")).query)["secret"][0]
        app = pyotp.TOTP(secret)
        assert await kept.totp.confirm(person.voter_id, app.at(int(time.time()) - 30))
        return app

    async def visit(self, person: Person, nonce: str = "", *, action: str = "login", **event: Any) -> dict[str, Any]:
        """Return what the client's scripts hand out for one request."""
        nonce = nonce or secrets.token_hex(16)
        token = await self.control("turnstile", "tokens", action=action, cdata=nonce)
        seen = await self.control(
            "fingerprint", "events", **{"device": person.device, "linkedId": nonce, "readableAfterMs": 0, **event}
        )
        return {"nonce": nonce, "challengeToken": token["token"], "deviceEventId": seen["eventId"]}

    async def post(
        self, person: Person, path: str, body: dict[str, Any], key: ProofKey | None = None
    ) -> httpx.Response:
        content = json.dumps(body).encode()
        proof = make_proof(key or person.key, "POST", PUBLIC_URL + path, time.time(), body=content)
        headers = {"dpop": proof, "content-type": "application/json", "user-agent": person.user_agent}
        return await self.client.post(path, content=content, headers=headers)

    async def log_in(self, person: Person, **fields: Any) -> httpx.Response:
        """Log in with a password, or as `fields` say."""
        visit = fields.pop("visit", None) or await self.visit(person)
        body = {"method": "password", "mail": person.mail, "password": PASSWORD, **visit, **fields}
        return await self.post(person, "/v1/auth/logins", {k: v for k, v in body.items() if v is not None})

    async def log_in_by_mail(self, person: Person, **event: Any) -> httpx.Response:
        visit = await self.visit(person, **event)
        asked = await self.ask_for_code(person, visit["nonce"])
        assert asked.status_code == 202, asked.text
        code = await self.code(person)
        return await self.log_in(person, method="mail_code", password=None, code=code, visit=visit)

    async def ask_for_code(self, person: Person, nonce: str, **fields: Any) -> httpx.Response:
        token = (await self.control("turnstile", "tokens", action="login", cdata=nonce))["token"]
        body = {"mail": person.mail, "nonce": nonce, "challengeToken": token, **fields}
        return await self.client.post("/v1/auth/logins/codes", json=body)

    async def code(self, person: Person, before: int = 0) -> str:
        """Return the code of the newest mail to somebody, once there are more than `before`."""
        async with asyncio.timeout(WITHIN_S):
            while len(found := await self.mail.wait_for(person.mail, 1)) <= before:
                await asyncio.sleep(0.02)
        code = _CODE.search(found[0].text)
        assert code is not None
        return code[0]

    async def step_up(
        self, person: Person, attempt_id: str, key: ProofKey | None = None, **body: Any
    ) -> httpx.Response:
        return await self.post(person, f"/v1/auth/logins/{attempt_id}/step-up", body, key)

    async def attempt(self, attempt_id: str) -> LoginAttempt:
        found = await self.logins[attempt_id.split("_")[1]].get(attempt_id)
        assert found is not None
        return found

    async def last_attempt(self, person: Person) -> LoginAttempt:
        pool = self.auth.cells.of(person.cell).pool
        found = await pool.fetchval(
            "SELECT attempt_id FROM identity.login_attempt WHERE voter_id = $1 ORDER BY at DESC LIMIT 1",
            person.voter_id,
        )
        return await self.attempt(found)


def vendors_of(address: str) -> dict[str, Any]:
    return {
        "fingerprint": FingerprintSettings(
            base_url=f"{address}/fingerprint/eu/v4",
            api_key="sk-eu",
            timeout_s=20,
            origins=frozenset({"https://vote.example", "android:org.example.vote"}),
            sealed_keys=("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",),
        ),
        "turnstile": TurnstileSettings(
            base_url=f"{address}/turnstile/v0", secret="a secret", hostnames=frozenset({"localhost"}), timeout_s=20
        ),
        "breaches": BreachesSettings(base_url=f"{address}/breaches", timeout_s=20),
        "passkeys": PasskeySettings(rp_id=RP_ID, origins=(ORIGIN,)),
    }


@asynccontextmanager
async def open_login_town(
    settings_for: SettingsFor,
    auth: Auth,
    room: LoginRoom | None = None,
    providers: dict[str, IdentityProviderSettings] | None = None,
) -> AsyncIterator[LoginTown]:
    """Serve the service and its vendors until the end of the block, with `providers` beside the one that works."""
    mounted: dict[str, Any] = {}

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted["app"](scope, receive, send)

    async with AsyncExitStack() as lifetime:
        address = await lifetime.enter_async_context(serve_sandboxes(late))
        mail = MailServer()
        port = await mail.listen("127.0.0.1", 0, lifetime)
        settings: Settings = settings_for(
            IDENTITY,
            public_url=PUBLIC_URL,
            identity_providers={"sandbox": auth.provider.settings, **(providers or {})},
            build=f"logins-{secrets.token_hex(4)}",
            mail=MailSettings(host="127.0.0.1", port=port, security="plain", sender="no-reply@vote.example.org"),
            **vendors_of(address),
        )
        names = ("fingerprint", "turnstile", "breaches")
        sandboxes = {name: await find_sandbox(name)(settings, lifetime) for name in names}
        mounted["app"] = mount({name: app for name, app in sandboxes.items() if app is not None})
        vendors = await lifetime.enter_async_context(vendor_client(address))
        await vendors.put("/fingerprint/_control/limits", json={"perSecond": 10_000, "burst": 10_000})
        pools = await identity_pools(settings, lifetime)
        client = await lifetime.enter_async_context(auth_service(settings, room))
        logins = {name: PostgresLogins(pool) for name, pool in pools.items()}
        yield LoginTown(auth, client, vendors, mail, logins)
