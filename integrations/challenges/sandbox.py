"""Turnstile's sandbox: siteverify with single use, expiry and replay by key, and what stands for the widget."""

import json
import secrets
import time
from collections import OrderedDict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, FastAPI, Request
from pydantic import Field
from starlette.types import ASGIApp

from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.faults import Faults, FaultSwitches, fault_routes
from integrations.settings import Settings

DUMMY_TOKEN: Final = "XXXX.DUMMY.TOKEN.XXXX"  # noqa: S105 - published, and what the testing keys pass
_TESTING_PASS, _TESTING_FAIL, _TESTING_SPENT = (f"{digit}x{'0' * 31}AA" for digit in "123")
_TOKEN_MAX: Final = 2048
_LIFETIME_S: Final = 300.0
_TOKENS_MAX: Final = 100_000
_SERVER_FAULT: Final = 500

Json = dict[str, Any]


class NewToken(ControlModel):
    """What a widget hands out: solved `ageS` ago; `changes` replaces fields of the answer (null takes one away)."""

    hostname: str = "localhost"
    action: str = ""
    cdata: str = ""
    age_s: float = 0
    changes: dict[str, Any] = Field(default_factory=dict)


class Clock(ControlModel):
    """By how much the vendor's clock differs from ours."""

    offset_s: float = 0


class InternalErrors(ControlModel):
    """How many of the next calls are answered 200 with `internal-error`."""

    count: int = Field(default=1, ge=0)


@dataclass(slots=True)
class _Token:
    issued_at: float
    answer: Json
    used: bool = False
    idempotency_key: str = ""


@dataclass(slots=True)
class _State:
    secrets: set[str]
    tokens: "OrderedDict[str, _Token]" = field(default_factory=OrderedDict)
    offset_s: float = 0.0
    internal_errors: int = 0

    def now(self) -> float:
        return time.time() + self.offset_s

    def verify(self, fields: Json) -> Json:
        secret, token = fields.get("secret"), fields.get("response")
        if not secret:
            return _no("missing-input-secret")
        if not token:
            return _no("missing-input-response")
        if secret in {_TESTING_PASS, _TESTING_FAIL, _TESTING_SPENT}:
            return self._verify_testing(secret, token)
        if secret not in self.secrets:
            return _no("invalid-input-secret")
        if not isinstance(token, str) or len(token) > _TOKEN_MAX or token not in self.tokens:
            return _no("invalid-input-response")
        return self._redeem(self.tokens[token], str(fields.get("idempotency_key", "")))

    def _redeem(self, token: _Token, key: str) -> Json:
        if token.used:
            return token.answer if key and key == token.idempotency_key else _no("timeout-or-duplicate")
        if self.now() - token.issued_at > _LIFETIME_S:
            return _no("timeout-or-duplicate")
        token.used, token.idempotency_key = True, key
        return token.answer

    def _verify_testing(self, secret: str, token: str) -> Json:
        if token != DUMMY_TOKEN:
            return _no("invalid-input-secret")
        if secret == _TESTING_PASS:
            solved_at = _timestamp(self.now())
            return _yes("example.com", solved_at) | {"metadata": {"result_with_testing_key": True}}
        return _no("invalid-input-response" if secret == _TESTING_FAIL else "timeout-or-duplicate")


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:  # noqa: ARG001 - the registry's form
    """Return the sandbox, which knows the secret of the settings, or None where they name no such vendor."""
    if settings.turnstile is None:
        return None
    state, faults = _State({settings.turnstile.secret.get_secret_value()}), Faults()
    app = FastAPI(openapi_url=None)
    app.include_router(fault_routes(faults))
    app.include_router(_control_routes(state))

    @app.post("/v0/siteverify")
    async def siteverify(request: Request) -> Json:
        try:
            fields = _fields(request.headers.get("content-type", ""), await request.body())
        except ValueError:
            return _no("bad-request")
        if state.internal_errors:
            state.internal_errors -= 1
            return _no("internal-error")
        return state.verify(fields)

    return FaultSwitches(app, faults, lambda status: _no("internal-error") if status >= _SERVER_FAULT else {})


def _control_routes(state: _State) -> APIRouter:
    router = APIRouter(prefix="/_control")

    @router.post("/tokens", status_code=201)
    async def issue(new: NewToken) -> dict[str, str]:
        token, issued_at = f"1.{secrets.token_urlsafe(64)}", state.now() - new.age_s
        answer = _yes(new.hostname, _timestamp(issued_at)) | {"action": new.action, "cdata": new.cdata} | new.changes
        kept = {name: value for name, value in answer.items() if value is not None}
        state.tokens[token] = _Token(issued_at, kept)
        while len(state.tokens) > _TOKENS_MAX:
            state.tokens.popitem(last=False)
        return {"token": token}

    @router.put("/clock", status_code=204)
    async def set_clock(clock: Clock) -> None:
        state.offset_s = clock.offset_s

    @router.put("/internal-errors", status_code=204)
    async def set_internal_errors(errors: InternalErrors) -> None:
        state.internal_errors = errors.count

    return router


def _fields(content_type: str, body: bytes) -> Json:
    """Return the fields of a form or a JSON object. Raises ValueError for anything else."""
    if content_type.startswith("application/json"):
        content = json.loads(body)
        if not isinstance(content, dict):
            raise ValueError("no object")
        return content
    if content_type.startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(body.decode(), strict_parsing=bool(body)))
    raise ValueError("neither a form nor JSON")


def _yes(hostname: str, solved_at: str) -> Json:
    return {"success": True, "error-codes": [], "challenge_ts": solved_at, "hostname": hostname}


def _no(code: str) -> Json:
    return {"success": False, "error-codes": [code], "messages": []}


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
