"""One application of many sandboxes, each under its prefix; never in production."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from integrations.sandboxes.registry import SANDBOXES, find_sandbox
from integrations.settings import Environment, Settings


class SandboxesRefusedError(Exception):
    """Sandboxes accept what nobody has proved, so production has none."""


async def open_sandboxes(settings: Settings, lifetime: AsyncExitStack) -> dict[str, ASGIApp]:
    """Return every sandbox whose vendor the settings name.

    Raises:
        SandboxesRefusedError: the environment is production.
    """
    if settings.environment is Environment.PRODUCTION:
        raise SandboxesRefusedError("production refuses sandboxes")
    opened = {name: await find_sandbox(name)(settings, lifetime) for name in SANDBOXES}
    return {name: app for name, app in opened.items() if app is not None}


def mount(sandboxes: Mapping[str, ASGIApp]) -> Starlette:
    """Return the application that serves each sandbox under `/{name}`, and their names under `/livez`."""

    async def livez(_: Request) -> JSONResponse:
        return JSONResponse({"sandboxes": sorted(sandboxes)})

    return Starlette(
        routes=[Route("/livez", livez), *(Mount(f"/{name}", app=app, name=name) for name, app in sandboxes.items())]
    )
