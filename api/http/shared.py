"""What the connections of one process share: routes, limits, header lines, counts, and streams that left HTTP."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.http.client_addresses import ClientAddresses
from api.http.holding import HeldRequests
from api.http.lean import LeanRequest, LeanRoute, LeanRoutes, by_framework
from api.http.problems import PROBLEM_CONTENT_TYPE, problem_bytes
from api.http.refusing import Refusals
from api.http.request_ids import RequestIds
from api.http.shedding import LoadShedder
from domain.errors import ErrorCode
from integrations.telemetry.http_metrics import UNMATCHED, HttpMetrics, RouteMetrics

_Headers = list[tuple[bytes, bytes]]
_NO_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """What one process takes. Times are enforced by a sweep once a second, so they are exact to about that."""

    connections: int = 20_000
    head_bytes: int = 32 * 1024
    head_s: float = 10.0  # from a request's first byte to the end of its headers
    request_s: float = 30.0  # from a request's first byte to the end of its body
    keep_alive_s: float = 75.0  # longer than a balancer keeps an idle connection
    write_s: float = 30.0  # a client that in so much waiting for it takes less than this is cut off
    write_bytes_per_s: float = 8 * 1024
    linger_s: float = 3.0  # how long a refused client may go on sending before it is cut off
    # A process that stops, in this order:
    lame_duck_s: float = 0.0  # not ready any more, and serves as before, until balancers have looked
    idle_s: float = 1.0  # connections that wait for nothing are closed, spread over this time
    stop_s: float = 20.0  # how long open requests are waited for
    handover_s: float = 10.0  # meanwhile streams are ended, spread over at most this time
    handed_over_per_s: float = 500.0  # fewer streams than that take less of it
    sweep_s: float = 1.0
    backlog: int = 2048


class Shared:
    """One per server."""

    def __init__(
        self,
        routes: LeanRoutes,
        limits: ServingLimits,
        metrics: HttpMetrics,
        addresses: ClientAddresses,
        shedder: LoadShedder,
    ) -> None:
        self.routes = routes
        self.shedder = shedder
        self.limits = limits
        self.addresses = addresses
        self.request_ids = RequestIds()
        self.held = HeldRequests()
        self.refusals = Refusals(routes, shedder, self.request_ids)
        self.turned_away = LeanRoute("OTHER", UNMATCHED, by_framework)  # what stands for any refused request of its
        self.stopping = False
        self.evicting = 0  # connections that are being closed to make room and are still counted
        self.detached: dict[asyncio.Transport, Callable[[], None]] = {}
        self._metrics = metrics
        self._evictions = metrics.evictions
        self.cut_off = metrics.cut_off  # connections whose client does not read
        self._by_route: dict[int, RouteMetrics] = {
            id(route): metrics.route(route.method, route.path) for route in (*routes.routes, self.turned_away)
        }
        self._from: _Headers | None = None
        self._cacheable = b""
        self._private = b""

    def common_lines(self, default_headers: _Headers, *, cacheable: bool) -> bytes:
        """Return the header lines of every answer; joined anew when the server's list (the date) is replaced."""
        if self._from is not default_headers:
            lines = [b"%b: %b\r\n" % pair for pair in default_headers]
            self._cacheable = b"".join([*lines, b"x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n"])
            self._private = self._cacheable + b"cache-control: no-store\r\n"
            self._from = default_headers
        return self._cacheable if cacheable else self._private

    def lean_answer(
        self,
        request: LeanRequest,
        status: int,
        body: bytes,
        *,
        content_type: bytes,
        extra_headers: bytes,
        default_headers: _Headers,
    ) -> bytes:
        """Return a whole answer as it goes out."""
        entity = (
            b"" if status in _NO_BODY else b"content-type: %b\r\ncontent-length: %d\r\n" % (content_type, len(body))
        )
        return b"".join(
            (
                STATUS_LINE[status],
                self.common_lines(default_headers, cacheable=request.route.cacheable),
                b"x-request-id: ",
                request.request_id.encode("ascii"),
                b"\r\n",
                entity,
                extra_headers,
                b"\r\n" if request.keep_alive else b"connection: close\r\n\r\n",
                body,
            )
        )

    def refusal(self, default_headers: _Headers, code: ErrorCode) -> bytes:
        """Return the last answer of a connection, and count it."""
        status, lines, body = problem_bytes(code)
        common = self.common_lines(default_headers, cacheable=False)
        head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n" % (PROBLEM_CONTENT_TYPE, len(body))
        self._metrics.route("OTHER", UNMATCHED).answered(status, 0.0)
        return STATUS_LINE[status] + common + head + lines + b"\r\n" + body

    def answered(self, route: LeanRoute, status: int, seconds: float) -> None:
        """Count the answer of a lean route."""
        self._by_route[id(route)].answered(status, seconds)

    def refused(self, route: LeanRoute, status: int) -> None:
        """Count a refusal of a lean route, which took no time worth observing."""
        self._by_route[id(route)].count(status)

    def too_many(self, connections: int) -> bool:
        """Tell whether there are more connections than there may be, streams included."""
        return connections + len(self.detached) - self.evicting > self.limits.connections

    def evicted(self, count: int) -> bool:
        """Note connections that are being closed to make room; say whether there are any."""
        self.evicting += count
        self._evictions.inc(count)
        return count > 0

    def forget_closed(self) -> None:
        """Forget detached transports that are closed."""
        for transport in [transport for transport in self.detached if transport.is_closing()]:
            del self.detached[transport]
