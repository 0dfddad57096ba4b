"""The console of a town over TLS, and a real Chromium that opens its pages."""

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from api.support.codec import CodecCell, CodecDesk
from api.support.codec_routes import add_codec
from api.support.composition import BASE, TEMPLATES
from comitia.stack.built_tools import CHROMIUM, built_tool
from domain.case_targets import Target
from domain.cases import Step, StepKind
from domain.recognition import Recognition, every_contract
from domain.tokens import Role
from integrations.keys.opening import open_keys
from integrations.keys.purposes import HISTORY
from integrations.listening import open_listener
from integrations.temporal.remote_codec import RemoteCodec
from integrations.temporal.submissions import SubmissionCase
from tests.api.auth.registration_town import Town, town
from tests.api.support.staff_desk import support_app
from tests.api.support.test_codec import Entries
from tests.api.support.test_unmasking import break_glass_worker
from tests.built_tools import need_tools
from tests.console_world import ConsoleWorld, console_world
from tests.limits_world import lonely_limits

__all__ = ["town"]

WITHIN_MS = 20_000
# Chromium as root, which calls nobody; a worker of a page asks for the certificate apart from it
_SWITCHES = (
    "--no-sandbox",
    "--ignore-certificate-errors",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
)
_STARTED_WITHIN_S = 20


class Votes:
    """One cell's votes: whatever is looked for has been confirmed."""

    async def find(self, submission_id: str) -> SubmissionCase:
        step = Step(datetime.now(UTC), StepKind.BEGAN, "SubmitVotes", "SubmitVotes", "began")
        return SubmissionCase(submission_id, "us", "s_one", "confirmed", has_receipt=True, steps=(step,))


@dataclass
class Staff:
    """A console and whoever opens it."""

    world: ConsoleWorld
    browser: Browser
    address: str
    base: str
    first: str  # the heading of the first page
    elsewhere: tuple[str, ...] = ()  # origins whose pages may ask the codec server
    complaints: list[str] = field(default_factory=list)  # of browsers: errors, and what the policy has refused

    async def context(self, **options: Any) -> BrowserContext:
        """Return a browser of its own, which keeps cookies apart from the others'."""
        context = await self.browser.new_context(ignore_https_errors=True, **options)
        context.set_default_timeout(WITHIN_MS)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        return context

    def _said(self, said: ConsoleMessage) -> None:
        place = said.location["url"]
        is_asked_again = said.text.endswith("a status of 401 (Unauthorized)")  # as a page whose address was typed in
        if said.type == "error" and place.startswith(self.address) and not is_asked_again:
            self.complaints.append(f"{place}: {said.text}")

    async def signed_in(self, *roles: Role, **options: Any) -> tuple[str, Page]:
        """Sign in somebody new as a person does, and return their actor and the first page."""
        staff_id, subject = await self.world.enrol(*roles)
        page = await (await self.context(**options)).new_page()
        await page.goto(f"{self.address}{self.base}")
        await page.get_by_role("link", name="Sign in at the identity provider").click()
        await page.get_by_label("Subject").fill(subject)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("heading", name=self.first, exact=True).wait_for()
        return f"staff:{staff_id}", page


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def staff(town: Town, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Staff]:
    queue = f"unmasking-{secrets.token_hex(4)}"
    async with AsyncExitStack() as lifetime:
        listener, address = listening()
        pools = {name: cell.pool for name, cell in town.cells.items()}
        world = await lifetime.enter_async_context(
            console_world(town.settings, pools, BASE, TEMPLATES, address=address)
        )
        # Where Temporal's UI could be: at the console's site, and at another one
        ui = open_listener("127.0.0.1", 0)
        elsewhere = tuple(f"https://{host}:{ui.getsockname()[1]}" for host in ("127.0.0.1", "localhost"))
        app = support_app(
            town,
            queue=queue,
            console=world.console,
            codec_origins=elsewhere,
            targets=[Target("RegisterVoter", timedelta(0), stage="contact_proof")],
            submissions=Votes(),
        )
        codec = RemoteCodec(open_keys(town.settings, HISTORY), Recognition(every_contract()))
        desk = CodecDesk(lambda name: CodecCell(name, Entries()), codec)
        add_codec(app, desk, world.console.beside.require(Role.SUPPORT), lonely_limits(), elsewhere)
        folder = tmp_path_factory.mktemp("tls")
        paths = certificate(folder)
        await lifetime.enter_async_context(served(app, listener, *paths))
        await lifetime.enter_async_context(served(PlainTextResponse("Temporal"), ui, *paths))
        await lifetime.enter_async_context(break_glass_worker(town, queue))
        browser = await lifetime.enter_async_context(chromium())
        yield Staff(world, browser, address, BASE, "Find a case", elsewhere)


def listening() -> tuple[socket, str]:
    """Return where a console will be served, and its address; there is a Chromium to open it."""
    need_tools(CHROMIUM)
    listener = open_listener("127.0.0.1", 0)
    return listener, f"https://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def opened_by_staff(
    app: ASGIApp, world: ConsoleWorld, place: tuple[socket, str], folder: Path, base: str, first: str
) -> AsyncIterator[Staff]:
    """Serve a console over TLS at a place, and start a Chromium for its staff."""
    listener, address = place
    async with served(app, listener, *certificate(folder)), chromium() as browser:
        yield Staff(world, browser, address, base, first)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start Chromium, and end it."""
    async with async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=built_tool(CHROMIUM), args=list(_SWITCHES))
        yield started
        await started.close()


@asynccontextmanager
async def served(app: ASGIApp, listener: socket, certificate: Path, key: Path) -> AsyncIterator[None]:
    """Serve over TLS while the context is open."""
    config = uvicorn.Config(
        app, ssl_certfile=certificate, ssl_keyfile=key, lifespan="off", ws="none", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))  # which leaves signals alone
    async with asyncio.timeout(_STARTED_WITHIN_S):
        while not server.started:
            await asyncio.sleep(0.02)
    yield
    server.force_exit = server.should_exit = True
    with suppress(asyncio.CancelledError):
        await serving


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate of this machine's address, signed by itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "console")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[1].write_bytes(private)
    return paths
