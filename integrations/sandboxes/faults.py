"""Switches that make a sandbox fail: so many times, on the routes that they name, with or without the effect."""

import asyncio
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from pydantic import Field, field_validator
from starlette.types import ASGIApp, Receive, Scope, Send

from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.serving import DROP

CONTROL: Final = "/_control"
_CHUNK: Final = b" " * (256 * 1024)
_HTML: Final = b"<!doctype html><html><body><h1>The service is being maintained</h1></body></html>"


class FaultKind(StrEnum):
    """How an answer goes wrong."""

    STATUS = "status"  # the vendor's error body of `status`, with `Retry-After` where `retryAfterS` is given
    SLOW = "slow"  # as always, `delayS` later
    NEVER = "never"  # no answer until the client leaves
    DROP = "drop"  # the connection is reset
    TRUNCATED = "truncated"  # the effect, and half of the body
    GARBAGE = "garbage"  # 200 and bytes that are no JSON
    HTML = "html"  # 200 and a page, as of a balancer in between
    HUGE = "huge"  # 200 and `bytes` of JSON


class Fault(ControlModel):
    """One switch: `count` requests of `method` whose path, without the prefix, holds the pattern `path`.

    With `after` the request has its effect before the answer is lost.
    """

    kind: FaultKind
    count: int = Field(default=1, ge=1, le=1_000_000)
    method: str = ""  # any
    path: str = ""  # any
    status: int = Field(default=500, ge=400, le=599)
    retry_after_s: int | None = Field(default=None, ge=0)
    delay_s: float = Field(default=0, ge=0, le=600)
    after: bool = False
    bytes: int = Field(default=8 * 1024 * 1024, ge=1, le=256 * 1024 * 1024)

    @field_validator("path")
    @classmethod
    def _is_pattern(cls, path: str) -> str:
        try:
            re.compile(path)
        except re.error as error:
            raise ValueError(f"not a pattern: {error}") from error
        return path

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is one that goes wrong."""
        return self.method.upper() in {"", method} and re.search(self.path, path) is not None


@dataclass(slots=True)
class Faults:
    """The switches of one sandbox, first come first used."""

    _left: list[tuple[Fault, int]] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Let the next requests that match go wrong."""
        self._left.append((fault, fault.count))

    def clear(self) -> None:
        """Let everything go right."""
        self._left.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return how this request goes wrong, and count it; or None."""
        for index, (fault, left) in enumerate(self._left):
            if fault.matches(method, path):
                self._left[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None

    def left(self) -> list[Fault]:
        """Return the switches with the counts that are left."""
        return [fault.model_copy(update={"count": left}) for fault, left in self._left]


def fault_routes(faults: Faults) -> APIRouter:
    """Return the control routes `/_control/faults`: add one, list what is left, clear."""
    router = APIRouter(prefix=f"{CONTROL}/faults")

    @router.post("", status_code=204)
    async def add_fault(fault: Fault) -> None:
        faults.add(fault)

    @router.get("")
    async def left_faults() -> list[Fault]:
        return faults.left()

    @router.delete("", status_code=204)
    async def clear_faults() -> None:
        faults.clear()

    return router


class FaultSwitches:
    """Middleware that breaks the answers of the requests that a switch is set for; control routes always work."""

    def __init__(self, app: ASGIApp, faults: Faults, error_body: Callable[[int], object]) -> None:
        """`error_body` returns the vendor's JSON of an error status."""
        self._app = app
        self._faults = faults
        self._error_body = error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or do not."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        fault = None
        if scope["type"] == "http" and not path.startswith(CONTROL):
            fault = self._faults.take(scope["method"], path)
        if fault is None:
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(fault.delay_s)
        if fault.kind is FaultKind.SLOW:
            await self._app(scope, receive, send)
            return
        answer = _Answer()
        if fault.after or fault.kind is FaultKind.TRUNCATED:
            await self._app(scope, receive, answer.send)
        await self._break(fault, answer, scope, receive, send)

    async def _break(self, fault: Fault, answer: "_Answer", scope: Scope, receive: Receive, send: Send) -> None:
        match fault.kind:
            case FaultKind.STATUS:
                more = {} if fault.retry_after_s is None else {"retry-after": str(fault.retry_after_s)}
                await _respond(send, fault.status, msgspec.json.encode(self._error_body(fault.status)), more)
            case FaultKind.TRUNCATED:
                await _respond(send, answer.status, answer.body[: len(answer.body) // 2])
            case FaultKind.GARBAGE:
                await _respond(send, 200, b"\xff\xfe\x00{]")
            case FaultKind.HTML:
                await _respond(send, 200, _HTML, {"content-type": "text/html"})
            case FaultKind.HUGE:
                await _respond_hugely(send, fault.bytes)
            case _:
                if fault.kind is FaultKind.DROP:
                    scope["extensions"][DROP]()
                while (await receive())["type"] != "http.disconnect":
                    pass


@dataclass(slots=True)
class _Answer:
    """What would have been answered."""

    status: int = 200
    body: bytes = b""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.body += message.get("body", b"")


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _respond(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    await _start(
        send, status, {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    )
    await send({"type": "http.response.body", "body": body})


async def _respond_hugely(send: Send, size: int) -> None:
    """Send one JSON text of `size` bytes or a little more, in pieces."""
    await _start(send, 200, {"content-type": "application/json"})
    await send({"type": "http.response.body", "body": b'{"filling":"', "more_body": True})
    for _ in range(-(-size // len(_CHUNK))):
        await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b'"}'})
