"""The sandboxes of the providers on real HTTP, a receiver of their webhooks, and the real vendor where there is one."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.ids import new_registration_id, proofing_case_id
from integrations.identity.letters.client import LettersProofing
from integrations.identity.sumsub.client import SumsubProofing
from integrations.identity.sumsub.signing import SumsubAuth
from integrations.sandboxes.mounting import mount, open_sandboxes
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Environment, Settings
from integrations.vendor_http import VendorClient, open_vendor_client
from integrations.vendor_settings import LettersSettings, SandboxSettings, SumsubSettings

WITHIN_S = 20.0


@dataclass
class Received:
    vendor: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Where webhooks arrive; `statuses` are the next answers. The next `silent` deliveries are never answered."""

    deliveries: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    silent: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.deliveries.append(Received(scope["path"].rpartition("/")[2], headers, body))
        if self.silent:
            self.silent -= 1
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        status = self.statuses.pop(0) if self.statuses else 204
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def about(self, text: str, count: int) -> list[Received]:
        """Wait until so many deliveries hold a text, and return them."""
        found: list[Received] = []
        async with asyncio.timeout(WITHIN_S):
            while len(found) < count:
                await asyncio.sleep(0.005)
                found = [each for each in self.deliveries if text.encode() in each.body]
        return found


@dataclass
class World:
    """Both sandboxes, and who they tell."""

    address: str
    settings: Settings
    receiver: Receiver

    @property
    def sumsub(self) -> SumsubSettings:
        assert self.settings.sumsub is not None
        return self.settings.sumsub

    @property
    def letters(self) -> LettersSettings:
        assert self.settings.letters is not None
        return self.settings.letters


def settings_for(address: str, webhook_timeout_s: float) -> Settings:
    return Settings(
        environment=Environment.TEST,
        sumsub=SumsubSettings(
            base_url=f"{address}/sumsub",
            timeout_s=20,
            app_token="sbx:public.private",
            secret_key="a secret",
            level="basic level",
            webhook_secret="another secret",
        ),
        letters=LettersSettings(
            base_url=f"{address}/letters", timeout_s=20, api_key="a key", webhook_secret="a third secret"
        ),
        sandboxes=SandboxSettings(
            webhooks_url=f"{address}/receiver",
            webhook_timeout_s=webhook_timeout_s,
            resend_after_s=(0.02, 0.05, 0.05, 0.05),
        ),
    )


@asynccontextmanager
async def open_world(*, webhook_timeout_s: float = WITHIN_S) -> AsyncIterator[World]:
    receiver = Receiver()
    mounted: dict[str, ASGIApp] = {}

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted["app"](scope, receive, send)

    async with AsyncExitStack() as lifetime, serve_sandboxes(late) as address:
        settings = settings_for(address, webhook_timeout_s)
        mounted["app"] = mount({**await open_sandboxes(settings, lifetime), "receiver": receiver})
        yield World(address, settings, receiver)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world() -> AsyncIterator[World]:
    async with open_world() as opened:
        yield opened


@pytest.fixture
def case_id() -> str:
    return proofing_case_id(new_registration_id("eu"), 1)


@dataclass
class Control:
    """Tells a sandbox what to do."""

    client: VendorClient

    async def __call__(self, method: str, path: str, /, **body: Any) -> Any:
        answer = await self.client.request(
            method, f"/_control{path}", json=None if method == "GET" else body, timeout=WITHIN_S
        )
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def end_fault(self, fault: dict[str, Any]) -> None:
        """Make sure that a fault was met; a call that gives up early may have done so before it got there."""
        if fault["kind"] not in {"never", "slow"}:
            assert await self("GET", "/faults") == []
        await self("DELETE", "/faults")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sumsub_client(world: World) -> AsyncIterator[VendorClient]:
    async with open_vendor_client(world.sumsub.base_url) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def sumsub_control(world: World, sumsub_client: VendorClient) -> AsyncIterator[Control]:
    control = Control(sumsub_client)
    yield control
    await control("DELETE", "/faults")
    await control("PUT", "/switches")
    world.receiver.statuses.clear()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def letters_client(world: World) -> AsyncIterator[VendorClient]:
    async with open_vendor_client(world.letters.base_url) as client:
        yield client


@pytest.fixture
def letters(world: World, letters_client: VendorClient) -> LettersProofing:
    return LettersProofing(letters_client, world.letters)


@dataclass
class Sumsub:
    """The vendor as both see it: our client, and the rest of the interface that a case needs."""

    settings: SumsubSettings
    client: VendorClient
    proofing: SumsubProofing

    def with_(self, now: Callable[[], float] | None = None, **changes: Any) -> SumsubProofing:
        settings = SumsubSettings(**{**self.settings.model_dump(), **changes})
        return SumsubProofing(self.client, settings, **({"now": now} if now else {}))

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        auth = SumsubAuth(
            self.settings.app_token.get_secret_value(), self.settings.secret_key.get_secret_value(), now=time.time
        )
        return await self.client.request(method, path, auth=auth, **request)

    async def simulate(self, reference: str, answer: str, *labels: str, kind: str = "", comment: str = "") -> None:
        """Have the review answered, as a sandbox token may on either side."""
        body: dict[str, Any] = {"reviewAnswer": answer, "rejectLabels": list(labels)}
        body |= {"reviewRejectType": kind} if kind else {}
        body |= {"moderationComment": comment, "clientComment": "not for the person"} if comment else {}
        response = await self.ask("POST", f"/resources/applicants/{reference}/status/testCompleted", json=body)
        assert response.is_success, response.text


REAL = "COMITIA_SUMSUB__APP_TOKEN"


@pytest_asyncio.fixture(params=["sandbox", *(["vendor"] if REAL in os.environ else [])], loop_scope="session")
async def sumsub(world: World, sumsub_client: VendorClient, request: pytest.FixtureRequest) -> AsyncIterator[Sumsub]:
    if request.param == "sandbox":
        yield Sumsub(world.sumsub, sumsub_client, SumsubProofing(sumsub_client, world.sumsub))
        return
    settings = Settings(environment=Environment.TEST).sumsub
    assert settings is not None
    async with open_vendor_client(settings.base_url) as client:
        yield Sumsub(settings, client, SumsubProofing(client, settings))
