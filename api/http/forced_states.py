"""States that a test forces on a service: not ready, overloaded, slow, or failing as one of its dependencies would.

Mounted only where the settings say so, which they may in the environment `test` alone.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.composition import Service
from api.http.application import problem_response
from api.http.lean import Handler, LeanRequest, LeanRoute
from domain.errors import DomainError, ErrorCode
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import Telemetry

PATH: Final = "/v1/test/forced-state"
_ALWAYS_ANSWERED: Final = frozenset({PATH, "/livez", "/readyz", "/metrics"})

log = structlog.get_logger(__name__)


class State(StrEnum):
    """What a service can be made to do."""

    NORMAL = "normal"
    NOT_READY = "not_ready"  # says so, and works
    OVERLOADED = "overloaded"  # refuses every request with `Retry-After`
    SLOW = "slow"  # answers every request `delay_ms` later
    FAILING = "failing"  # answers every request with `code`, as where a dependency is away


class ForcedState(BaseModel):
    """The body of the call."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    state: State
    code: ErrorCode = ErrorCode.LEDGER_UNAVAILABLE
    delay_ms: Annotated[int, Field(alias="delayMs", ge=0, le=60_000)] = 1000


class ForcedStates:
    """The state that is forced now."""

    def __init__(self) -> None:
        self.current = ForcedState(state=State.NORMAL)

    async def ready(self) -> bool:
        """The readiness check."""
        return self.current.state is not State.NOT_READY

    @property
    def refusal(self) -> ErrorCode | None:
        """What every request is refused with, or None."""
        refusals = {State.OVERLOADED: ErrorCode.OVERLOADED, State.FAILING: self.current.code}
        return refusals.get(self.current.state)

    @property
    def delay_s(self) -> float:
        """How much later every request is answered."""
        return self.current.delay_ms / 1000 if self.current.state is State.SLOW else 0.0


def mount_forced_states(service: Service, settings: Settings, telemetry: Telemetry) -> Service:
    """Return the service with `PUT` and `GET /v1/test/forced-state`, and every route under the state's command.

    Raises:
        PermissionError: the environment is not `test`.
    """
    if settings.environment is not Environment.TEST:
        raise PermissionError("states are forced in tests alone")
    states = ForcedStates()
    router = APIRouter(include_in_schema=False)

    @router.put(PATH)
    async def force(wanted: Annotated[ForcedState, Body()]) -> ForcedState:
        states.current = wanted
        return wanted

    @router.get(PATH)
    async def forced() -> ForcedState:
        return states.current

    service.app.include_router(router)
    service.app.user_middleware.append(Middleware(_Forced, states=states))  # inside what every answer passes
    telemetry.readiness.add("forced_state", states.ready)
    log.warning("forced_states_mounted")
    return replace(service, lean_routes=[_forced_route(route, states) for route in service.lean_routes])


class _Forced:
    """The state's command over routes that ASGI answers."""

    def __init__(self, app: ASGIApp, states: ForcedStates) -> None:
        self._app, self._states = app, states

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _ALWAYS_ANSWERED:
            if (code := self._states.refusal) is not None:
                await problem_response(Request(scope), code)(scope, receive, send)
                return
            await asyncio.sleep(self._states.delay_s)
        await self._app(scope, receive, send)


def _forced_route(route: LeanRoute, states: ForcedStates) -> LeanRoute:
    def handler(request: LeanRequest) -> None:
        if (code := states.refusal) is not None:
            request.respond_problem(code)
        elif states.delay_s:
            asyncio.get_running_loop().call_later(states.delay_s, _later(route.handler), request)
        else:
            route.handler(request)

    return replace(route, handler=handler)


def _later(handler: Handler) -> Callable[[LeanRequest], None]:
    """Return a handler whose errors become answers, as those of one that is called at once do."""

    def call(request: LeanRequest) -> None:
        try:
            handler(request)
        except DomainError as error:
            request.respond_error(error)
        except Exception:
            request.respond_problem(ErrorCode.INTERNAL)
            raise

    return call
