"""The issuer that staff of a machine under development sign in to the console at: it asks who they are."""

from contextlib import AsyncExitStack

from starlette.types import ASGIApp

from integrations.login.issuer_sandbox.sandbox import create_sandbox
from integrations.login.issuer_sandbox.state import Issuer
from integrations.settings import Settings
from integrations.vendor_settings import IdentityProviderSettings

BACK = "/back"  # how the addresses end that consoles have people sent back to
_NOWHERE = "http://localhost/back"


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:  # noqa: ARG001 - holds nothing
    """Return the issuer of staff that the settings name, or None where they name none."""
    if settings.staff_provider is None:
        return None
    provider = IdentityProviderSettings(**dict(settings.staff_provider), redirect_uri=_NOWHERE)
    return create_sandbox(Issuer(provider, subject="", mail="", return_path=BACK))
