"""What a service hands over to be served, and how a service is found by name."""

import importlib
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from fastapi import FastAPI

from api.http.lean import LeanRoute
from domain.priorities import Work
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry

_NAME = re.compile(r"[a-z][a-z_]{0,31}")


@dataclass(frozen=True, slots=True)
class Service:
    """A wired service: the application, and the routes that are answered, or at least refused, without it.

    Readiness checks are added to `telemetry.readiness` while the service is composed.
    `on_stop` functions are called when the process begins to stop, before open requests are waited for; `on_refused`
    hears ten times a second of what was refused for load, by kind of work.
    """

    app: FastAPI
    lean_routes: Sequence[LeanRoute] = ()
    on_stop: Sequence[Callable[[], None]] = field(default=())
    on_refused: Callable[[Work, int], None] | None = None


Compose = Callable[[Settings, AsyncExitStack, Telemetry], Awaitable[Service]]


def find_compose(service: str) -> Compose:
    """Return `compose` of `api.<service>.composition`.

    Raises:
        LookupError: there is no such service.
    """
    name = f"api.{service}.composition"
    if not _NAME.fullmatch(service):
        raise LookupError(f"not a service name: {service!r}")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in {name, f"api.{service}"}:
            raise LookupError(f"no service named {service}") from error
        raise
    compose: Compose = module.compose
    return compose
