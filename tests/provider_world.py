"""The sandbox issuer over HTTP, and the settings that name it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache

from starlette.applications import Starlette

from integrations.login.issuer_sandbox.sandbox import create_sandbox
from integrations.login.issuer_sandbox.state import Issuer, SigningKey, new_key
from integrations.sandboxes.mounting import mount
from integrations.sandboxes.serving import serve_sandboxes
from integrations.vendor_settings import IdentityProviderSettings

CALLBACK = "https://vote.example.org/back/from/sandbox"


@cache
def signing_keys() -> tuple[SigningKey, ...]:
    """Two keys for every issuer: making them takes long."""
    return (new_key(), new_key())


@dataclass
class IssuerServer:
    """A server whose issuer is replaced for each test."""

    address: str
    served: Starlette

    @property
    def settings(self) -> IdentityProviderSettings:
        """The settings of whoever logs people in here."""
        return IdentityProviderSettings.model_validate(
            {
                "issuer": f"{self.address}/issuer/",
                "client_id": "comitia",
                "client_secret": "secret-of-the-sandbox",
                "redirect_uri": CALLBACK,
                "timeout_s": 2.0,
            }
        )

    def issuer(self) -> Issuer:
        """Return a new issuer in place of the one before."""
        made = Issuer(self.settings, keys=[replace(key) for key in signing_keys()])
        self.served.router.routes.clear()
        self.served.mount("/issuer", create_sandbox(made))
        return made


class SilentProvider:
    """Accepts every connection and says nothing, until it hangs up on all of them."""

    def __init__(self) -> None:
        self.callers: list[asyncio.StreamWriter] = []
        self.address = ""

    @property
    def settings(self) -> IdentityProviderSettings:
        """The settings of whoever waits for it, patiently."""
        given = {"issuer": f"{self.address}/", "client_id": "comitia", "redirect_uri": CALLBACK, "timeout_s": 60.0}
        return IdentityProviderSettings.model_validate(given)

    def hang_up(self) -> None:
        """Close every connection."""
        for caller in self.callers:
            caller.close()
        self.callers.clear()

    async def called(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self.callers.append(writer)


@asynccontextmanager
async def silent_provider() -> AsyncIterator[SilentProvider]:
    """Serve until the end of the block."""
    provider = SilentProvider()
    server = await asyncio.start_server(provider.called, "127.0.0.1", 0)
    provider.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        provider.hang_up()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def issuer_server() -> AsyncIterator[IssuerServer]:
    """Serve until the end of the block."""
    served = mount({})
    async with serve_sandboxes(served) as address:
        yield IssuerServer(address, served)
