"""The sandbox issuer over HTTP, and the settings that name it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache

from starlette.applications import Starlette

from integrations.login.issuer_sandbox.sandbox import create_sandbox
from integrations.login.issuer_sandbox.state import Issuer, SigningKey, new_key
from integrations.sandboxes.mounting import mount
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import IdentityProviderSettings

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


@asynccontextmanager
async def issuer_server() -> AsyncIterator[IssuerServer]:
    """Serve until the end of the block."""
    served = mount({})
    async with serve_sandboxes(served) as address:
        yield IssuerServer(address, served)
