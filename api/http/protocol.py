"""The HTTP/1.1 connection: lean routes are answered in place, everything else goes the ASGI way.

Built on uvicorn's httptools protocol, whose `cycle` (the newest request of the connection) and `pipeline` (those that
wait for earlier answers) hold lean requests as well, so that answers leave in the order in which requests came.
"""

import asyncio
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, cast

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.http.evicting import make_room
from api.http.heads import has_body, target_of
from api.http.lean import LeanRequest, LeanRoute, by_framework
from api.http.shared import Shared
from api.http.work_of import work_of
from domain.errors import DomainError, ErrorCode
from domain.priorities import Work

log = structlog.get_logger(__name__)
_DISCARD_LIMIT: Final = 4 * 1024 * 1024


class Reading(IntEnum):
    """Where the parser is."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2


class LeanProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Shared,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.shared = shared
        self.request_ids = shared.request_ids
        self.reading = Reading.BETWEEN
        self.since = time.perf_counter()  # the first byte of the request being read, or the end of the last answer
        self.head_bytes = 0
        self.address = ""
        self.active: Any = None  # the request whose turn it is to be answered: lean or ASGI
        self.advancing = False
        self.half_closed = False
        self.detached = False
        self.discarding = False  # the last answer is out; what still comes is thrown away
        self.discarded_bytes = 0
        self.refusal: ErrorCode | None = None
        self.last_words = b""  # a refusal that waits for earlier answers
        self.pieces = 0  # of bodies
        self.stuck_since = 0.0
        self.evicted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if self.shared.too_many(len(self.connections)):
            others = cast("set[LeanProtocol]", self.connections)
            if not self.shared.evicted(make_room(others, self)):
                self._farewell(self.shared.refusal(self.server_state.default_headers, ErrorCode.OVERLOADED))

    @property
    def idle(self) -> bool:
        """Whether it is between requests and open."""
        return (
            self.reading is Reading.BETWEEN
            and not self.busy
            and not self.pipeline
            and not self.discarding
            and not self.transport.is_closing()
        )

    def evict(self) -> None:
        """Close an idle connection to make room."""
        self.evicted = True
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every open request that its client is gone."""
        self.connections.discard(self)
        if self.evicted:
            self.shared.evicting -= 1
        for cycle in (self.active, self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is None:
                continue
            if not cycle.response_complete:
                cycle.disconnected = True
            if isinstance(cycle, RequestResponseCycle):
                cycle.message_event.set()
                if (abandon := cycle.scope["state"].get("abandon")) is not None:
                    abandon()
        self.pipeline.clear()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep a half-closed connection open while complete requests wait for their answers."""
        self.half_closed = True
        if isinstance(self.active, RequestResponseCycle):
            state = self.active.scope["state"]
            state["half_closed"] = True  # for whoever begins later
            if (leave := state.get("leave")) is not None:
                leave()
        if self.discarding or self.detached:
            return None
        if self.reading is Reading.BODY and self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()[0].disconnected = True  # it never arrived whole
        elif self.reading is Reading.BODY:
            return None
        return self.busy or bool(self.pipeline) or None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and end what it cannot read."""
        if self.discarding or self.detached:
            self.discarded_bytes += len(data)
            if self.discarded_bytes > _DISCARD_LIMIT:
                self.transport.abort()
            return
        if self.shared.shedder.alert and self._turn_away(data):
            return
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
        """Refuse a whole request that has nothing before it on this connection; say whether that is done."""
        if (
            self.reading is not Reading.BETWEEN
            or self.busy
            or self.pipeline
            or self.flow.write_paused
            or self.half_closed
            or self.last_words
            or self.shared.stopping
        ):
            return False
        route = self.shared.refusals.of(data)
        if route is None:
            return False
        self.since = time.perf_counter()
        self.server_state.total_requests += 1
        common = self.shared.common_lines(self.server_state.default_headers, cacheable=False)
        self.transport.write(self.shared.refusals.answer(common))
        self.shared.refused(route, 503)
        self.flow.pause_reading()
        self.shared.resting.rest(self)
        return True

    def read_again(self) -> None:
        """Go on reading after a rest."""
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self.stuck_since = time.perf_counter()
        self.flow.pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        self.flow.resume_writing()
        self._advance()

    def shutdown(self) -> None:
        """Finish what is being read or answered, then close."""
        if self.reading is Reading.BETWEEN and not self.busy and not self.pipeline:
            self.transport.close()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

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

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.active is not None and not self.active.response_complete

    def on_response_complete(self) -> None:
        """Go on to the next request of the connection."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.reading is Reading.BETWEEN:
            self.since = time.perf_counter()
        elif self.expect_100_continue and self.active is self.cycle:
            self._linger()  # answered unasked for its body: what comes next may be that body or another request
            return
        if self.pipeline or self.flow.read_paused or self.last_words or self.half_closed:
            self._advance()

    def _advance(self) -> None:
        if self.advancing or self.detached or self.discarding or self.transport.is_closing():
            return
        self.advancing = True  # answers given in place come back here: a loop, so that no client controls our stack
        while self.pipeline and not self.busy and not self.flow.write_paused:
            cycle, app = self.pipeline.pop()
            if isinstance(cycle, LeanRequest):
                self._activate(cycle)
            else:
                self._start_asgi_task(cycle, app)
        self.advancing = False
        if self.busy or self.pipeline or self.flow.write_paused or self.detached or self.transport.is_closing():
            return
        if self.last_words:
            self._farewell(self.last_words)
        elif self.half_closed:
            self.transport.close()
        else:
            self._read_on()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.active = cycle
        shedder, work = self.shared.shedder, cycle.scope["state"]["work"]
        shedder.enter(work)
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda _: shedder.leave(work))
        self.tasks.add(task)

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

    def _activate(self, request: LeanRequest) -> None:
        self.active = request
        request.active = True
        if request.expects_continue and not request.complete and request.refusal is None:
            length = request.get(b"content-length") or b""
            if length.isdigit() and int(length) > request.route.body_limit_bytes:
                request.refusal = ErrorCode.PAYLOAD_TOO_LARGE
            elif not request.received_bytes:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.refusal is not None:
            self._refuse_lean(request, request.refusal)
        elif request.complete:
            self._dispatch(request)
        elif self.flow.read_paused:
            self._read_on()

    def _read_on(self) -> None:
        if self.reading is not Reading.BETWEEN:
            self.since = time.perf_counter()  # it could not go on while reading was paused
        self.flow.resume_reading()

    def _dispatch(self, request: LeanRequest) -> None:
        try:
            if request.turned_away:
                raise DomainError(ErrorCode.OVERLOADED, retry_after_s=self.shared.refusals.retry_after_s())
            request.route.handler(request)
        except DomainError as error:
            request.respond_error(error)
        except Exception:  # the last line before the wire: the caller gets a code, the log the trace
            log.exception("request_failed", route=request.route.path, request_id=request.request_id)
            request.respond_problem(ErrorCode.INTERNAL)

    def send_lean(
        self, request: LeanRequest, status: int, body: bytes, content_type: bytes, extra_headers: bytes
    ) -> None:
        """Write the answer of a lean request and go on."""
        request.response_complete = True
        request.status = status
        self.transport.write(
            self.shared.lean_answer(
                request,
                status,
                body,
                content_type=content_type,
                extra_headers=extra_headers,
                default_headers=self.server_state.default_headers,
            )
        )
        self.shared.answered(request.route, status, time.perf_counter() - request.received_at)
        if not request.keep_alive:
            self._close_after(request)
        self.on_response_complete()

    def detach_lean(self, request: LeanRequest, on_stop: Callable[[], None]) -> asyncio.Transport:
        """Let go of the transport; requests behind the detached one are never answered."""
        request.response_complete = True
        self.detached = True
        self.connections.discard(self)
        self.pipeline.clear()
        self.flow.resume_reading()
        self.parser = None  # type: ignore[assignment]
        self.shared.detached[self.transport] = on_stop
        return self.transport

    def _close_after(self, request: LeanRequest) -> None:
        if request.complete:
            self.transport.close()
        else:
            self._linger()  # closing now would reset the connection, and the answer would be lost with it

    def _linger(self) -> None:
        self.discarding = True
        self.since = time.perf_counter()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _farewell(self, answer: bytes) -> None:
        self.transport.write(answer)
        self._linger()

    def _refuse_lean(self, request: LeanRequest, code: ErrorCode) -> None:
        request.refusal = code
        if request.active:
            request.keep_alive = False
            request.respond_problem(code)

    def refuse(self, code: ErrorCode) -> None:
        """Answer what cannot be read, after the answers that are still due."""
        if self.discarding or self.detached or self.last_words or self.transport.is_closing():
            return
        cycle: Any = self.cycle
        if self.reading is Reading.BODY and cycle is not None and not cycle.response_complete:
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            elif isinstance(cycle, RequestResponseCycle) and cycle.response_started:
                self.transport.close()
                return
            else:
                self.active = None
            cycle.disconnected = True
            if isinstance(cycle, RequestResponseCycle):
                cycle.message_event.set()
        elif self.reading is Reading.BODY and cycle is not None:
            self._linger()  # answered before its body was here: a request has one answer
            return
        if self.busy or self.pipeline:
            self.last_words = self.shared.refusal(self.server_state.default_headers, code)
            self.flow.pause_reading()
        else:
            self._farewell(self.shared.refusal(self.server_state.default_headers, code))
