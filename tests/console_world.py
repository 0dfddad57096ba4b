"""The console of a service, the issuer that its staff sign in at, the roll of staff, and their browsers."""

import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from api.console.opening import Console, ConsoleParts, make_console
from api.console.visits import Site
from api.http.used_proofs import UsedProofs
from domain.accounts import LookupKind
from domain.canonical import provider_login, provider_person
from domain.console import SessionKind
from domain.ids import new_staff_id
from domain.ports import KeyManagement
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import CONSOLE, LOOKUP
from integrations.login.issuer_sandbox.sandbox import create_sandbox
from integrations.login.issuer_sandbox.state import Issuer
from integrations.login.oidc import open_provider
from integrations.postgres.roles import STAFFING
from integrations.postgres.staff_accounts import PostgresStaffAccounts
from integrations.sandboxes.mounting import mount
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.vendor_settings import IdentityProviderSettings, StaffProviderSettings
from tests.limits_world import lonely_limits
from tests.provider_world import signing_keys

ADDRESS = "https://console.example.org"


@dataclass
class Form:
    """A form of a page as a browser would send it: hidden fields, and the first choice of each list."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[dict[str, str]] = field(default_factory=list)
    method: str = "post"


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found["action"], method=found["method"]))
        elif tag == "input" and found.get("name") and (found.get("type") != "checkbox" or "checked" in found):
            self.forms[-1].fields[found["name"]] = found.get("value", "")
        elif tag == "select":
            self._select = found["name"]
        elif tag == "option" and self._select:
            self.forms[-1].fields.setdefault(self._select, found["value"])
        elif tag == "button" and found.get("name"):
            self.forms[-1].buttons.append(found)


def forms_of(page: httpx.Response) -> list[Form]:
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


class Browser:
    """Somebody's browser: it keeps cookies, and says of its forms where they come from; with a key it shows that."""

    def __init__(self, transport: httpx.AsyncBaseTransport, base: str, address: str = ADDRESS) -> None:
        self.client = httpx.AsyncClient(
            transport=transport, base_url=address, event_hooks={"request": [self._show_key]}
        )
        self.base = base
        self.address = address
        self.key: ProofKey | None = None

    async def _show_key(self, request: httpx.Request) -> None:
        if self.key is not None and "dpop" not in request.headers:
            url = str(request.url.copy_with(query=None))
            request.headers["dpop"] = make_proof(self.key, request.method, url, time.time(), body=request.content)

    async def get(self, path: str = "", **headers: str) -> httpx.Response:
        return await self.client.get(f"{self.base}{path}", headers=headers)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str | None) -> httpx.Response:
        said = {
            "origin": self.address,
            "sec-fetch-site": "same-origin",
            "content-type": "application/x-www-form-urlencoded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        content = urlencode(fields).encode()
        return await self.client.post(
            path, content=content, headers={name: value for name, value in said.items() if value is not None}
        )

    async def submit(self, page: httpx.Response, path: str, /, button: str = "", **fields: str) -> httpx.Response:
        """Send the form of a page whose action ends like this, and follow where it leads."""
        form = form_to(page, path, **fields)
        pressed = {"approved": button} if button else {}
        if form.method == "get":
            return await self.client.get(form.action, params={**form.fields, **fields})
        answer = await self.post(form.action, {**form.fields, **pressed, **fields})
        if answer.status_code == 303:
            answer = await self.client.get(answer.headers["location"])
        return answer

    async def pass_for(self, thumbprint: str) -> str:
        """Return the pass that the page gives for a key."""
        page = await self.get(f"/pass?key={thumbprint}")
        assert page.status_code == 200, page.text
        answer = await self.submit(page, "/pass")
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        found = re.search(r"<code>(pass-[^<]+)</code>", answer.text)
        assert found, answer.text
        return unescape(found[1])

    @property
    def cookie(self) -> str:
        """The cookie of the session."""
        found = self.client.cookies.get("__Host-comitia-staff")
        assert found is not None
        return found

    @cookie.setter
    def cookie(self, value: str) -> None:
        self.client.cookies.set("__Host-comitia-staff", value, domain="console.example.org", path="/")


def form_to(page: httpx.Response, path: str, /, **fields: str) -> Form:
    """Return the form of a page whose action ends like this and that has these hidden fields."""
    hidden = {name: value for name, value in fields.items() if name == "action"}
    fitting = [form for form in forms_of(page) if form.action.endswith(path) and hidden.items() <= form.fields.items()]
    assert fitting, f"no form to {path} with {hidden} on {page.url}: {page.status_code} {page.text}"
    return fitting[0]


@dataclass
class ConsoleWorld:
    """A console and its issuer; `serve` it before browsers are opened."""

    console: Console
    issuer: Issuer
    provider: httpx.AsyncClient
    staff: dict[str, PostgresStaffAccounts]
    hashes: KeyedLookupHashes
    keys: KeyManagement
    transport: httpx.AsyncBaseTransport | None = None

    @property
    def staff_provider(self) -> StaffProviderSettings:
        """The issuer, as a service that is composed with a console has it in its settings."""
        told = {name: value for name, value in self.issuer.settings if name not in {"redirect_uri", "auth_time"}}
        return StaffProviderSettings(**told)

    def serve(self, app: Any) -> None:
        self.transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))

    def browser(self) -> Browser:
        assert self.transport is not None
        return Browser(self.transport, self.console.pages.site.base)

    async def enrol(self, *roles: Role, cell: str = "eu", subject: str = "", person: str = "") -> tuple[str, str]:
        """Add somebody to the roll; return their id, and what the issuer calls them."""
        staff_id, subject = new_staff_id(cell), subject or f"somebody-{secrets.token_hex(6)}"
        issuer = self.issuer.settings.issuer
        login = await self.hashes.every(LookupKind.LOGIN, provider_login(issuer, subject))
        named = await self.hashes.every(LookupKind.LOGIN, provider_person(issuer, person)) if person else ()
        assert await self.staff[cell].add(staff_id, set(roles), LookupKind.LOGIN, login, "comitia:tests", person=named)
        return staff_id, subject

    async def sent_back(self, browser: Browser, subject: str, to: str = "") -> str:
        """Begin a sign-in, log in at the issuer, and return where that sends the browser."""
        key = "" if browser.key is None else browser.key.jkt
        begun = await browser.get(f"/sign-in?{urlencode({'to': to, 'key': key})}")
        assert begun.status_code == 303, begun.text
        chosen = f"{begun.headers['location']}&{urlencode({'subject': subject})}"
        answer = await self.provider.get(chosen)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    async def signed_in(self, *roles: Role, cell: str = "eu", key: ProofKey | None = None) -> tuple[str, Browser]:
        """Return the actor and the browser of somebody new with these roles."""
        staff_id, subject = await self.enrol(*roles, cell=cell)
        browser = self.browser()
        browser.key = key
        answer = await browser.client.get(await self.sent_back(browser, subject))
        assert answer.status_code == 200, answer.text
        return f"staff:{staff_id}", browser


def changing_routes(console: Console) -> set[str]:
    """Return the routes of a console that change something, as `tests/audited.py` names them."""
    routes = {
        (method, route.path)
        for route in console.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    back = ("GET", f"{console.pages.site.base}/back")
    return {f"{method} {path}" for method, path in routes if method not in {"GET", "HEAD"} or (method, path) == back}


@asynccontextmanager
async def console_world(
    settings: Settings,
    pools: Mapping[str, asyncpg.Pool],
    base: str,
    folder: Path,
    *,
    address: str = ADDRESS,
    sessions: SessionKind = SessionKind.IDENTITY,
    person_claim: str = "",
    used: UsedProofs | None = None,
) -> AsyncIterator[ConsoleWorld]:
    """Make a console over the databases of cells; `settings` as identity and staffing."""
    keys = open_keys(settings, CONSOLE, LOOKUP)
    hashes, served = KeyedLookupHashes(keys), mount({})
    async with AsyncExitStack() as lifetime:
        issuer_address = await lifetime.enter_async_context(serve_sandboxes(served))
        provider = IdentityProviderSettings.model_validate(
            {
                "issuer": f"{issuer_address}/staff/",
                "client_id": "comitia-console",
                "client_secret": "secret-of-the-console",
                "redirect_uri": f"{address}{base}/back",
                "timeout_s": 20.0,
                "person_claim": person_claim,
            }
        )
        issuer = Issuer(provider, subject="", mail="", keys=[replace(key) for key in signing_keys()])
        served.mount("/staff", create_sandbox(issuer))
        client = await lifetime.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=20))
        limits, metrics = lonely_limits(), AuthMetrics(CollectorRegistry())
        console = make_console(
            Site(address, base, sessions=sessions),
            folder,
            ConsoleParts(keys, hashes, pools, limits, metrics, used or UsedProofs({})),
            await open_provider("staff", provider, lifetime),
        )
        staffing = await identity_pools(settings, lifetime, STAFFING, size=2)
        staff = {name: PostgresStaffAccounts(staffing[name]) for name in pools}
        yield ConsoleWorld(console, issuer, client, staff, hashes, keys)
