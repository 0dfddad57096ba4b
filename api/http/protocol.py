"""The reading half of an HTTP/1.1 connection: lean routes are answered in place, everything else goes the ASGI way."""

import asyncio
import time
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from api.http.connection import Connection, Reading
from api.http.evicting import make_room
from api.http.heads import has_body, names_two_hosts, target_of
from api.http.lean import LeanRequest, LeanRoute, by_framework
from api.http.shared import Shared
from api.http.work_of import work_of
from domain.errors import ErrorCode
from domain.priorities import Work

_DISCARD_LIMIT: Final = 4 * 1024 * 1024
HELD_BYTES_MAX: Final = 64 * 1024


class LeanProtocol(Connection):
    """One connection: what the parser finds on it, and who answers."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Shared,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, shared=shared)
        self.head_bytes = 0
        self.address = ""
        self.discarded_bytes = 0
        self.refusal: ErrorCode | None = None
        self.pieces = 0  # of bodies

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if self.shared.too_many(len(self.connections)):
            others = cast("set[LeanProtocol]", self.connections)
            if not self.shared.evicted(make_room(others, self)):
                self._farewell(self.shared.refusal(self.server_state.default_headers, ErrorCode.OVERLOADED))

    def data_received(self, data: bytes) -> None:
        """Read what came, or hold it where it may have to be refused."""
        if self.discarding or self.detached:
            self.discarded_bytes += len(data)
            if self.discarded_bytes > _DISCARD_LIMIT:
                self.transport.abort()
            return
        if self.held:
            self.held += data
            if len(self.held) > HELD_BYTES_MAX:
                self.look()
        elif self.shared.shedder.alert and self.idle and not (self.flow.write_paused or self.shared.stopping):
            self.held = data
            self.shared.held.add(self)
        else:
            self._feed(data)

    def look(self) -> None:
        """Refuse what is held, or read it; a no-op where nothing is."""
        data, self.held = self.held, b""
        if not data or self.transport.is_closing():
            return
        if self.shared.stopping or not self.shared.shedder.alert or not self._turn_away(data):
            self._feed(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Look at what is held first: it came before the end."""
        self.look()
        return super().eof_received()

    def _feed(self, data: bytes) -> None:
        """Feed the parser, and end what it cannot read."""
        reading, headers, pieces = self.reading, self.headers, self.pieces
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing to upgrade to: the request was taken as plain HTTP, what follows it cannot be read
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.keep_alive = False
            else:
                self.transport.close()
        except httptools.HttpParserError:
            self.refuse(self.refusal or ErrorCode.MALFORMED_REQUEST)
        else:
            # Of this nothing came out: half a header, half a trailer, or what stands between two pieces of a body
            if self.reading is reading is not Reading.BETWEEN and self.headers is headers and self.pieces == pieces:
                self.head_bytes += len(data)
                if self.head_bytes > self.shared.limits.head_bytes:
                    self.refuse(ErrorCode.HEADERS_TOO_LARGE)

    def _turn_away(self, data: bytes) -> bool:
        """Refuse what is exactly one request; say whether that is done."""
        route = self.shared.refusals.of(data)
        if route is None:
            return False
        self.since = time.perf_counter()
        self.server_state.total_requests += 1
        common = self.shared.common_lines(self.server_state.default_headers, cacheable=False)
        self.transport.write(self.shared.refusals.answer(common))
        self.shared.refused(route, 503)
        return True

    def on_message_begin(self) -> None:
        """Start a request; the scope is only made for those that go to ASGI."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.reading = Reading.HEAD
        self.head_bytes = 0
        self.since = time.perf_counter()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line."""
        self.url += url
        self.head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. A trailer is thrown away: it comes when headers have been judged (RFC 9110, section 6.5.1).

        Raises:
            ValueError: the head is too large; the parser stops.
        """
        name = name.lower()
        self.head_bytes += len(name) + len(value) + 4
        if self.head_bytes > self.shared.limits.head_bytes:
            self.refusal = ErrorCode.HEADERS_TOO_LARGE
            raise ValueError("head too large")
        if self.reading is Reading.BODY:
            return
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide who answers.

        Raises:
            ValueError: a request that cannot be taken; the parser stops.
        """
        if self.detached:
            return
        if self.parser.should_upgrade() and has_body(self.headers):
            raise ValueError("of a request that asks for an upgrade the parser shows no body")
        if names_two_hosts(self.headers):
            raise ValueError("more than one Host")
        path, query = target_of(self.url)
        method = self.parser.get_method()
        found = self.shared.routes.match(method, path)
        turned_away = False
        if found is None or found[0].handler is by_framework:
            work, gate = (work_of(method, path), None) if found is None else (found[0].work, found[0].gate)
            turned_away = bool(self.shared.shedder.refusal(work, gate))
            if not turned_away:
                self._begin_asgi(work)
                self.reading = Reading.BODY  # from here on the newest request is the one being read
                return
            found = found or (self.shared.turned_away, "")
        elif self.shared.shedder.alert:
            turned_away = self._refuses(found[0], found[1])
        client = self.shared.addresses.of(self.address, self.headers)
        request = LeanRequest(
            self,
            found[0],
            path=path,
            query=query,
            parameter=found[1],
            headers=self.shared.addresses.believed(client, self.headers),
            client=client,
            received_at=self.since,
            keep_alive=self._keeps_alive(),
        )
        request.expects_continue = self.expect_100_continue
        request.turned_away = turned_away
        self.cycle = request  # type: ignore[assignment]
        self.reading = Reading.BODY
        if self.busy or self.pipeline or self.flow.write_paused:
            self.flow.pause_reading()
            self.pipeline.appendleft((request, self.app))  # type: ignore[arg-type]
        else:
            self._activate(request)

    def _refuses(self, route: LeanRoute, parameter: str) -> bool:
        authorization = next((value for name, value in self.headers if name == b"authorization"), b"")
        return bool(self.shared.shedder.refusal(route.work, route.gate, parameter, authorization))

    def _begin_asgi(self, work: Work) -> None:
        address = self.shared.addresses.of(self.address, self.headers)
        self.scope = {  # type: ignore[typeddict-item]
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client if address == self.address else (address, 0),
            "scheme": self.scheme or "http",
            "root_path": self.root_path,
            "headers": self.shared.addresses.believed(address, self.headers),
            "state": {**self.app_state, "work": work, "received_at": self.since},
        }
        super().on_headers_complete()
        if self.shared.stopping:
            self.cycle.keep_alive = False

    def _keeps_alive(self) -> bool:
        return not self.shared.stopping and self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the body, up to the route's limit."""
        self.pieces += 1
        request = self.cycle
        if not isinstance(request, LeanRequest):
            if not self.detached:
                super().on_body(body)
        elif not request.response_complete and request.refusal is None:
            request.received_bytes += len(body)
            request.chunks.append(body)
            if request.received_bytes > request.route.body_limit_bytes:
                request.chunks.clear()
                self._refuse_lean(request, ErrorCode.PAYLOAD_TOO_LARGE)

    def on_message_complete(self) -> None:
        """Call the handler of a lean request, when it is its turn."""
        self.reading = Reading.BETWEEN
        request = self.cycle
        if not isinstance(request, LeanRequest):
            if not self.detached:
                super().on_message_complete()
            return
        request.complete = True
        if request.response_complete:
            if not request.keep_alive and not self.detached:
                self.transport.close()
            return
        chunks = request.chunks
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        request.chunks = []
        if request.active:
            self._dispatch(request)
