"""Requests that are answered without ASGI: no scope, no task, no coroutine, one plain call when the body is here."""

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from api.http.problems import PROBLEM_CONTENT_TYPE, problem_bytes
from api.http.request_ids import RequestIds
from api.http.shedding import Gate
from domain.errors import DomainError, ErrorCode
from domain.priorities import Work

DEFAULT_BODY_LIMIT: Final = 64 * 1024
JSON: Final = b"application/json"
_PARAMETER: Final = "{id}"
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")

Handler = Callable[["LeanRequest"], None]


def by_framework(request: "LeanRequest") -> None:
    """Stand for the handler of a route that the framework answers, and that is refused by its bytes like the others.

    Raises:
        LookupError: always; no request comes here.
    """
    raise LookupError(request.route.path)


@dataclass(frozen=True, slots=True)
class LeanRoute:
    """One method and path, with at most one `{id}` segment, and the plain function that takes its requests.

    `handler` runs on the event loop and must not block; it calls `respond` now or later. What it raises becomes a
    problem: DomainError by its code, anything else 500 `internal`.
    """

    method: str
    path: str
    handler: Handler
    body_limit_bytes: int = DEFAULT_BODY_LIMIT
    cacheable: bool = False  # answers bring their own `Cache-Control`; otherwise they are `no-store`
    work: Work = Work.READ
    gate: Gate | None = None  # what bounds this route besides how late the process is


class LeanConnection(Protocol):
    """What a request needs of the connection it came on."""

    request_ids: RequestIds

    def send_lean(
        self, request: "LeanRequest", status: int, body: bytes, content_type: bytes, extra_headers: bytes
    ) -> None:
        """Write the one answer of a request."""
        ...

    def detach_lean(self, request: "LeanRequest", on_stop: Callable[[], None]) -> asyncio.Transport:
        """Give the transport away."""
        ...


class LeanRequest:
    """One request, complete with its body.

    `headers` are lower-cased names with values as sent; `received_at` is `time.perf_counter()` at the first byte;
    `parameter` is the decoded `{id}` segment, empty where the route has none. `disconnected` turns true when the
    client is gone: answering is then a no-op.
    """

    __slots__ = (
        "_connection",
        "_request_id",
        "active",
        "body",
        "chunks",
        "client",
        "complete",
        "disconnected",
        "expects_continue",
        "headers",
        "keep_alive",
        "limit_lines",
        "method",
        "parameter",
        "path",
        "query",
        "received_at",
        "received_bytes",
        "refusal",
        "response_complete",
        "route",
        "status",
        "turned_away",
    )

    def __init__(
        self,
        connection: LeanConnection,
        route: LeanRoute,
        *,
        path: bytes,
        query: bytes,
        parameter: str,
        headers: list[tuple[bytes, bytes]],
        client: str,
        received_at: float,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self._request_id = ""
        self.route = route
        self.method = route.method
        self.path = path
        self.query = query
        self.parameter = parameter
        self.headers = headers
        self.client = client
        self.received_at = received_at
        self.keep_alive = keep_alive
        self.body = b""
        self.limit_lines = b""  # of rate limits, in whatever the answer is
        self.status = 0
        self.disconnected = False
        # The connection's own marks: what has arrived, and whether earlier requests have been answered.
        self.chunks: list[bytes] = []
        self.received_bytes = 0
        self.complete = False
        self.active = False
        self.expects_continue = False
        self.refusal: ErrorCode | None = None
        self.turned_away = False  # refused for load: answered like any other, and its connection goes on
        self.response_complete = False

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a header by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def request_id(self) -> str:
        """The caller's `X-Request-ID` where it is well-formed, else one of ours."""
        if not self._request_id:
            self._request_id = self._connection.request_ids.accept(self.get(b"x-request-id"))
        return self._request_id

    def respond(self, status: int, body: bytes, *, content_type: bytes = JSON, extra_headers: bytes = b"") -> None:
        """Answer once, now or later, from the event loop's thread; a second answer and a lost client are no-ops.

        `extra_headers` are whole lines, each ending in CRLF, already safe to send.
        """
        if not (self.response_complete or self.disconnected):
            self._connection.send_lean(self, status, body, content_type, extra_headers + self.limit_lines)

    def respond_problem(self, code: ErrorCode, detail: str = "", *, retry_after_s: int | None = None) -> None:
        """Answer with the problem of a code."""
        status, headers, body = problem_bytes(code, detail, retry_after_s=retry_after_s, request_id=self.request_id)
        self.respond(status, body, content_type=PROBLEM_CONTENT_TYPE, extra_headers=headers)

    def respond_error(self, error: DomainError) -> None:
        """Answer with the problem of a raised error."""
        self.respond_problem(error.code, error.detail, retry_after_s=error.retry_after_s)

    def detach(self, on_stop: Callable[[], None]) -> asyncio.Transport:
        """Give the transport away, unanswered: the caller writes the response and calls `transport.set_protocol`.

        `on_stop` is called once when the process stops while the transport is open; it should end the stream soon.

        Raises:
            ConnectionError: the client is gone, or the request was answered.
        """
        if self.response_complete or self.disconnected:
            raise ConnectionError("nothing to detach")
        return self._connection.detach_lean(self, on_stop)


class LeanRoutes:
    """The table of lean routes, looked up once per request on raw bytes."""

    def __init__(self, routes: Iterable[LeanRoute] = ()) -> None:
        """Build the table.

        Raises:
            ValueError: two routes share method and path, or a path has more than one parameter.
        """
        self._exact: dict[bytes, dict[bytes, LeanRoute]] = {}
        self._patterns: dict[bytes, list[tuple[bytes, bytes, LeanRoute]]] = {}
        self.routes = tuple(routes)
        seen: set[tuple[str, str]] = set()
        for route in self.routes:
            if (route.method, route.path) in seen:
                raise ValueError(f"two lean routes for {route.method} {route.path}")
            seen.add((route.method, route.path))
            self._add(route)

    def _add(self, route: LeanRoute) -> None:
        method = route.method.encode("ascii")
        prefix, parameter, suffix = route.path.partition(_PARAMETER)
        if "{" in prefix + suffix:
            raise ValueError(f"a lean route has at most one parameter, named id: {route.path}")
        if parameter:
            found = (prefix.encode("ascii"), suffix.encode("ascii"), route)
            self._patterns.setdefault(method, []).append(found)
        else:
            self._exact.setdefault(method, {})[route.path.encode("ascii")] = route

    def match(self, method: bytes, path: bytes) -> tuple[LeanRoute, str] | None:
        """Return the route of a raw path and its decoded parameter, or None where ASGI must answer.

        Control characters are for ASGI, which refuses them: no id has one, and PostgreSQL takes no NUL.
        """
        if b"%" in path:
            path = unquote_to_bytes(path)
            if _CONTROLS.search(path):
                return None
        exact = self._exact.get(method)
        if exact is not None and (route := exact.get(path)) is not None:
            return route, ""
        for prefix, suffix, route in self._patterns.get(method, ()):
            if path.startswith(prefix) and path.endswith(suffix):
                segment = path[len(prefix) : len(path) - len(suffix)]
                if segment and b"/" not in segment and len(path) > len(prefix) + len(suffix):
                    return route, segment.decode("utf-8", "replace")
        return None
