"""Who may ask the sandbox what, and how often: Sumsub's three headers, and its limits where they are switched on."""

import hmac
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from integrations.identity.sumsub.sandbox_errors import SandboxError, error_body
from integrations.identity.sumsub.signing import SIGNATURE_HEADER, TIME_HEADER, TOKEN_HEADER, request_signature
from integrations.sandboxes.faults import CONTROL

_TOKEN: Final = re.compile(r"(?:sbx|prd|tst):[^.:\s]+\.[^.:\s]+")
_WINDOW_S: Final = 60
_LIMIT_WINDOW_S: Final = 5
_LIMITS: Final = {"GET": 300, "POST": 50}


@dataclass(slots=True)
class Access:
    """One app token with its secret; `clock_offset_s` is how far the sandbox's clock is ahead."""

    app_token: str
    secret: bytes
    clock_offset_s: float = 0
    limited: bool = False
    _asked: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def is_sandbox(self) -> bool:
        """Tell whether verdicts may be simulated with this token."""
        return self.app_token.startswith("sbx:")

    def check(self, scope: Scope, body: bytes) -> None:
        """Accept a request that is signed, in Sumsub's order of checks.

        Raises:
            SandboxError: 401.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        token, at, signature = (headers.get(name) for name in (TOKEN_HEADER, TIME_HEADER, SIGNATURE_HEADER))
        if not token or not at or not signature:
            raise SandboxError(401, "A header is missing", 4006)
        if not _TOKEN.fullmatch(token):
            raise SandboxError(401, "Invalid app token", 4000)
        if not hmac.compare_digest(token.encode(), self.app_token.encode()):
            raise SandboxError(401, "App token not found", 4001)
        if not at.isdigit() or abs(time.time() + self.clock_offset_s - int(at)) > _WINDOW_S:
            raise SandboxError(401, "Request expired", 4004)
        query: bytes = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        expected = request_signature(self.secret, at, scope["method"], target, body)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise SandboxError(401, "Invalid signature", 4003)

    def count(self, method: str) -> None:
        """Count a request. Raises SandboxError 429 over the limit."""
        limit = _LIMITS.get(method)
        if not self.limited or limit is None:
            return
        asked, now = self._asked.setdefault(method, deque()), time.monotonic()
        while asked and asked[0] <= now - _LIMIT_WINDOW_S:
            asked.popleft()
        if len(asked) >= limit:
            raise SandboxError(429, "Too many requests")
        asked.append(now)


class CheckedAccess:
    """Middleware: reads a request whole, checks it, and hands it on with its path as it was sent.

    Paths are matched undecoded, so that an encoded slash in an id stays inside it; handlers decode.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope["root_path"]).startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        body = await _whole_body(receive)
        try:
            self._access.check(scope, body)
            self._access.count(scope["method"])
        except SandboxError as error:
            content = msgspec.json.encode(error_body(error.status, error.description, error.error_code))
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
            await send({"type": "http.response.start", "status": error.status, "headers": headers})
            await send({"type": "http.response.body", "body": content})
            return

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app({**scope, "path": scope["raw_path"].decode("ascii")}, replay, send)


async def _whole_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
