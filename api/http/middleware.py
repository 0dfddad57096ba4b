"""What every ASGI request gets: an id, a trace, limits, safe headers, a count, a problem instead of a stack trace."""

import contextlib
import re
import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problems import PROBLEM_CONTENT_TYPE, problem_bytes
from api.http.request_ids import RequestIds
from domain.errors import ErrorCode
from integrations.telemetry.http_metrics import UNMATCHED, HttpMetrics
from integrations.telemetry.request_trace import RequestTrace
from integrations.telemetry.tracing import Tracing, request_context

log = structlog.get_logger(__name__)
SAFE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
NO_STORE: Final = (b"cache-control", b"no-store")
_UNTRACED: Final = frozenset({"/livez", "/readyz", "/metrics"})
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_FORMS: Final = frozenset({"application/x-www-form-urlencoded"})


def header_pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Return header lines, each ending in CRLF, as names and values."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")) if name]


class BodyTooLargeError(Exception):
    """More body arrived than the limit."""


class HttpMiddleware:
    """The outermost layer of an application; plain ASGI, since it is on every request's way."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tracing: Tracing,
        metrics: HttpMetrics,
        body_limit_bytes: int,
        media_types: frozenset[str],
        secure: bool,
        forms_below: str = "",
    ) -> None:
        """Bodies are of `media_types`; those of paths below `forms_below`, where there is one, are forms."""
        self._app = app
        self._tracing = tracing
        self._metrics = metrics
        self._limit = body_limit_bytes
        self._media_types = media_types
        self._forms_below = forms_below
        self._headers = (*SAFE_HEADERS, (b"strict-transport-security", b"max-age=63072000")) if secure else SAFE_HEADERS
        self._request_ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        request_id = self._request_ids.accept(headers.get(b"x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        trace = self._tracing.begin_request(headers.get(b"traceparent"), time.perf_counter())
        exchange = _Exchange(
            scope, receive, send, trace=trace, request_id=request_id, limit=self._limit, headers=self._headers
        )
        with request_context(trace), structlog.contextvars.bound_contextvars(request_id=request_id):
            refusal = self._refuse(scope, headers)
            try:
                if refusal is None:
                    await exchange.run(self._app)
                else:
                    await exchange.problem(refusal)
            finally:
                self._count(scope, trace, exchange.status)

    def _refuse(self, scope: Scope, headers: dict[bytes, bytes]) -> ErrorCode | None:
        # PostgreSQL keeps no NUL, so no such value can exist; of a path a pattern's `$` takes one line break for none
        if _CONTROLS.search(scope["path"]) or b"%00" in scope["query_string"]:
            return ErrorCode.MALFORMED_REQUEST
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            return ErrorCode.PAYLOAD_TOO_LARGE
        is_form = bool(self._forms_below) and scope["path"].startswith(f"{self._forms_below}/")
        taken = _FORMS if is_form else self._media_types
        if (length.strip(b"0") or b"transfer-encoding" in headers) and not _takes(taken, headers.get(b"content-type")):
            return ErrorCode.UNSUPPORTED_MEDIA_TYPE
        return None

    def _count(self, scope: Scope, trace: RequestTrace, status: int) -> None:
        ended_at = time.perf_counter()
        template = getattr(scope.get("route"), "path", UNMATCHED)
        if template in _UNTRACED:
            return
        about = {"http.request.method": scope["method"], "http.route": template}
        about["request_id"] = scope["state"]["request_id"]
        kept = trace.finish(status, ended_at=ended_at, attributes=about)
        self._metrics.route(scope["method"], template).answered(
            status, ended_at - trace.started_at, trace.trace_id if kept else ""
        )


def _takes(media_types: frozenset[str], content_type: bytes | None) -> bool:
    if content_type is None:
        return False
    media, _, parameters = content_type.decode("latin-1").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    return media.strip() in media_types and ("charset=" not in charset or "charset=utf-8" in charset)


class _Exchange:
    """One request and its answer, watched from outside."""

    __slots__ = (
        "_headers",
        "_limit",
        "_receive",
        "_received_bytes",
        "_request_id",
        "_scope",
        "_send",
        "_trace",
        "status",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        trace: RequestTrace,
        request_id: str,
        limit: int,
        headers: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._trace = trace
        self._request_id = request_id
        self._limit = limit
        self._headers = headers
        self._received_bytes = 0
        self.status = 0

    async def run(self, app: ASGIApp) -> None:
        """Run the application; what it does not handle becomes 413 or 500, logged once."""
        try:
            await app(self._scope, self.receive, self.send)
        except BodyTooLargeError:
            await self.problem(ErrorCode.PAYLOAD_TOO_LARGE)
        except Exception:  # the last line before the wire: the caller gets a code, the log the trace
            if self.status:
                self.status = 500
                raise  # half an answer is out: the server logs this and closes, which is all that can tell the client
            log.exception("request_failed", route=getattr(self._scope.get("route"), "path", UNMATCHED))
            await self.problem(ErrorCode.INTERNAL)

    async def receive(self) -> Message:
        """Pass on a piece of the body within the limit.

        Raises:
            BodyTooLargeError: the limit is passed; the answer is 413 whatever the application makes of this.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self._limit:
                raise BodyTooLargeError
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer with the headers that every answer has."""
        if self._received_bytes > self._limit:
            await self.problem(ErrorCode.PAYLOAD_TOO_LARGE)
            return
        await self._send_safely(message)

    async def _send_safely(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            headers += [pair for pair in (*self._headers, NO_STORE) if pair[0] not in names]
            headers += header_pairs(self._scope["state"].get("limit_lines", b""))
            headers.append((b"x-request-id", self._request_id.encode("ascii")))
            headers.append((b"traceparent", self._trace.traceparent.encode("ascii")))
            message = {**message, "headers": headers}
        await self._send(message)

    async def problem(self, code: ErrorCode) -> None:
        """Answer with a problem."""
        if self.status:
            return
        status, lines, body = problem_bytes(code, request_id=self._request_id)
        headers = header_pairs(lines)
        headers += [(b"content-type", PROBLEM_CONTENT_TYPE), (b"content-length", str(len(body)).encode("ascii"))]
        with contextlib.suppress(OSError):
            await self._send_safely({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
