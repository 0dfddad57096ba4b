"""The sandbox issuer over HTTP, and our client of it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest_asyncio

from domain.federation import Transaction, cell_of_state, state_hash
from integrations.login.issuer_sandbox.state import Issuer
from integrations.login.oidc import OidcLogins, open_providers
from integrations.settings import Environment, Settings
from integrations.vendor_settings import IdentityProviderSettings
from tests.provider_world import CALLBACK, IssuerServer, issuer_server

JKT = "k" * 43
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nobody here speaks TLS, and reading them takes 34 ms


class Transactions:
    """Logins that are under way, of one process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], Transaction] = {}

    async def begin(self, kind: str, state: str, subject: str, lifetime: timedelta) -> bytes:
        secret = len(self._kept).to_bytes(32, "big")
        self._kept[kind, state_hash(state)] = Transaction(subject, secret)
        return secret

    async def take(self, kind: str, state: str) -> Transaction | None:
        return self._kept.pop((kind, state_hash(state)), None)


@dataclass
class Provider:
    """An issuer that runs, and logins at it."""

    issuer: Issuer
    settings: IdentityProviderSettings
    logins: OidcLogins
    browser: httpx.AsyncClient
    transactions: Transactions = field(default_factory=Transactions)

    async def visit(self, jkt: str = JKT, *, voter_id: str = "", name: str = "sandbox") -> dict[str, str]:
        """Begin a login, or a link of a voter, go to the issuer, and return what it sends back."""
        url = await self.logins.begin(name, "eu", self.transactions, jkt, voter_id=voter_id)
        answer = await self.browser.get(url)
        assert answer.status_code == 302, answer.text
        target = urlsplit(answer.headers["location"])
        assert f"{target.scheme}://{target.netloc}{target.path}" == CALLBACK
        back = {name: values[0] for name, values in parse_qs(target.query).items()}
        assert cell_of_state(back["state"]) == "eu"
        return back


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server() -> AsyncIterator[IssuerServer]:
    async with issuer_server() as opened:
        yield opened


@pytest_asyncio.fixture
async def provider(server: IssuerServer) -> AsyncIterator[Provider]:
    async with AsyncExitStack() as lifetime:
        settings = server.settings
        providers = {
            "sandbox": settings,
            "other": settings.model_copy(update={"issuer": f"{server.address}/other/"}),
            "told": settings.model_copy(update={"token_endpoint": f"{settings.issuer}oauth/token"}),
            "untold": settings.model_copy(update={"auth_time": False}),
        }
        logins = await open_providers(Settings(environment=Environment.TEST, identity_providers=providers), lifetime)
        browser = await lifetime.enter_async_context(httpx.AsyncClient(verify=NO_AUTHORITIES, trust_env=False))
        yield Provider(server.issuer(), settings, logins, browser)
