"""Every sandbox by name: what is added here is served under `/{name}` by `python -m integrations.sandboxes`.

A sandbox speaks a vendor's HTTP interface as a small real server. Its module has

    async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None

which returns an application, or None where the settings name no such vendor; whatever it starts ends with `lifetime`.
The application sees its requests as they came: `scope["path"]` and `scope["raw_path"]` hold the whole target with the
prefix, `scope["root_path"]` the prefix, so that a signature over the bytes on the wire can be checked.
"""

import importlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from starlette.types import ASGIApp

from integrations.settings import Settings

SANDBOXES: Final[dict[str, str]] = {
    # name, the prefix of its paths: module
    "issuer": "integrations.login.issuer_sandbox.sandbox",
    "staff": "integrations.login.issuer_sandbox.staff",
    "sumsub": "integrations.identity.sumsub.sandbox",
    "fingerprint": "integrations.devices.sandbox.app",
    "turnstile": "integrations.challenges.sandbox",
    "breaches": "integrations.login.breaches_sandbox",
    "letters": "integrations.identity.letters.sandbox",
    "mail": "integrations.mail.sandbox",
}

OpenSandbox = Callable[[Settings, AsyncExitStack], Awaitable[ASGIApp | None]]


def find_sandbox(name: str) -> OpenSandbox:
    """Return `open_sandbox` of a sandbox. Raises KeyError where there is none of the name."""
    found: OpenSandbox = importlib.import_module(SANDBOXES[name]).open_sandbox
    return found
