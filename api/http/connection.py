"""The answering half of a connection: in the order in which requests came, each once, and how it ends.

Built on uvicorn's httptools protocol, whose `cycle` (the newest request of the connection) and `pipeline` (those that
wait for earlier answers) hold lean requests as well.
"""

import asyncio
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.http.lean import LeanRequest
from api.http.shared import Shared
from api.http.unread import Unread
from domain.errors import DomainError, ErrorCode

log = structlog.get_logger(__name__)


class Reading(IntEnum):
    """Where the parser is."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2


class Connection(HttpToolsProtocol):
    """One connection, as far as its answers and its end go; whoever reads from it sets `reading` and `cycle`."""

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
        self.active: Any = None  # the request whose turn it is to be answered: lean or ASGI
        self.advancing = False
        self.half_closed = False
        self.detached = False
        self.discarding = False  # the last answer is out; what still comes is thrown away
        self.last_words = b""  # a refusal that waits for earlier answers
        self.held = b""  # what came and waits until the process has time to look at it
        self.unread = Unread()
        self.evicted = False

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or waits to be looked at."""
        return bool(self.held) or (self.active is not None and not self.active.response_complete)

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

    def _read_on(self) -> None:
        if self.reading is not Reading.BETWEEN:
            self.since = time.perf_counter()  # it could not go on while reading was paused
        self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self.unread.wait(time.perf_counter(), self.transport.get_write_buffer_size())
        self.flow.pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        self.unread.go_on(time.perf_counter(), self.transport.get_write_buffer_size())
        self.flow.resume_writing()
        self._advance()

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

    def _farewell(self, answer: bytes) -> None:
        self.transport.write(answer)
        self._linger()

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

    def evict(self) -> None:
        """Close an idle connection to make room."""
        self.evicted = True
        self.transport.close()

    def shutdown(self) -> None:
        """Finish what is being read or answered, then close."""
        if self.reading is Reading.BETWEEN and not self.busy and not self.pipeline:
            self.transport.close()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

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
