"""Connections to vendors: HTTP/1.1 as `httpx` sends it, at a tenth of the processor time that its own transport takes.

Two calls of vendors are in the middle of every login. Answers are read by the parser that reads our own requests
(llhttp, in its strict mode), and whole: they are short, and one that is not is refused.
"""

import asyncio
import ssl
import time
from typing import Final, cast

import httptools
import httpx

from integrations.turns import Turns

_Origin = tuple[str, str, int]  # scheme, host, port
_PORTS: Final = {"http": 80, "https": 443}
_FIRST_FINAL: Final = 200  # statuses under it announce another answer
_AROUND_MAX: Final = 64 * 1024  # bytes of an answer that are not its body: heads, and what is around its pieces
_UNSENDABLE: Final = b"\r\n\0"


class VendorConnections(httpx.AsyncBaseTransport):
    """A pool of kept connections for one client; who finds too many open waits as long as the caller does.

    No request is sent twice: one whose connection ends before the answer is an error, as it may have had its effect.
    """

    def __init__(self, *, connections: int, idle_s: float, body_max: int, tls: ssl.SSLContext | None = None) -> None:
        """Keep at most `connections`, unused ones for `idle_s`; an answer of more than `body_max` bytes is an error.

        Without a context servers are checked as `httpx` checks them.
        """
        self._places = Turns(connections)
        self._idle_s = idle_s
        self._body_max = body_max
        self._idle: dict[_Origin, list[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._tls = tls

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return self._places.waiting

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its whole answer.

        Raises:
            httpx.TransportError: there was none.
        """
        content = _as_sent(request, await request.aread())
        origin = _origin(request.url)
        async with self._places:
            connection = self._kept(origin) or await self._connected(origin)
            try:
                answer = await connection.exchange(content)
            except BaseException:
                connection.abort()
                raise
            if connection.is_open:
                self._idle.setdefault(origin, []).append(connection)
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(bytes(answer.body)))

    async def aclose(self) -> None:
        """Close every connection."""
        self._idle.clear()
        for connection in tuple(self._open):
            connection.abort()

    def _kept(self, origin: _Origin) -> "_Connection | None":
        """Return the connection of an origin that was used last, where it is still good."""
        kept = self._idle.get(origin, [])
        while kept:
            connection = kept.pop()
            if connection.is_open and time.monotonic() - connection.used_at < self._idle_s:
                return connection
            connection.abort()
        return None

    async def _connected(self, origin: _Origin) -> "_Connection":
        scheme, host, port = origin
        tls = await self._context() if scheme == "https" else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self._open, self._body_max), host, port, ssl=tls
            )
        except OSError as error:  # also of TLS
            raise httpx.ConnectError(type(error).__name__) from error
        return connection

    async def _context(self) -> ssl.SSLContext:
        """Return what servers are checked with; reading the authorities takes a moment."""
        if self._tls is None:
            context = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls


def _origin(url: httpx.URL) -> _Origin:
    if url.scheme not in _PORTS or not url.host:
        raise httpx.UnsupportedProtocol("not an http(s) URL")
    return url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]


def _as_sent(request: httpx.Request, body: bytes) -> bytes:
    """Return a request as bytes. Raises `httpx.LocalProtocolError` for what could be read as more than one."""
    if request.method == "HEAD":  # whose answer announces a body that does not come
        raise httpx.LocalProtocolError("no HEAD here")
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    for name, value in request.headers.raw:
        if name.lower() == b"transfer-encoding":
            lines.append(b"content-length: %d" % len(body))
        else:
            lines.append(b"%b: %b" % (name, value))
    if any(byte in line for line in lines for byte in _UNSENDABLE):
        raise httpx.LocalProtocolError("a line break in a request")
    return b"\r\n".join([*lines, b"", body])


class _Answer:
    """What was read so far: the callbacks are the parser's."""

    __slots__ = ("_body_max", "body", "done", "headers", "is_last", "is_whole", "parser", "received", "status")

    def __init__(self, body_max: int) -> None:
        self._body_max = body_max
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.received = 0  # bytes
        self.is_whole = False
        self.is_last = False  # of its connection
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_message_begin(self) -> None:
        if self.is_whole:
            raise ValueError("two answers")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.is_last = not self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body
        if len(self.body) > self._body_max:
            raise ValueError("too large")

    def on_message_complete(self) -> None:
        if self.status < _FIRST_FINAL:
            self.headers.clear()
        else:
            self.is_whole = True

    @property
    def ends_with_connection(self) -> bool:
        """Whether the head says neither how long the body is nor that it is in pieces."""
        framing = {b"content-length", b"transfer-encoding"}
        return self.status >= _FIRST_FINAL and not any(name.lower() in framing for name, _ in self.headers)


class _Connection(asyncio.Protocol):
    """One connection, with one request on its way at most."""

    def __init__(self, opened: "set[_Connection]", body_max: int) -> None:
        self._opened = opened
        self._body_max = body_max
        self._transport: asyncio.Transport | None = None
        self._answer: _Answer | None = None
        self.used_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, content: bytes) -> _Answer:
        """Send a request, and return its answer once it is whole."""
        if self._transport is None:
            raise httpx.WriteError("the connection is closed")
        answer = self._answer = _Answer(self._body_max)
        self._transport.write(content)
        await answer.done
        self.used_at = time.monotonic()
        return answer

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.is_whole:
            self.abort()  # nobody asked
            return
        answer.received += len(data)
        try:
            answer.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(httpx.RemoteProtocolError("not an answer that we take"))
            return
        if answer.received - len(answer.body) > _AROUND_MAX:  # the parser would go on keeping it
            self._fail(httpx.RemoteProtocolError("too large a head"))
        elif answer.is_whole:
            if answer.is_last:
                self.abort()
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._opened.discard(self)
        if self._answer is not None:
            if exc is None and self._answer.ends_with_connection:
                self._finish()
            else:
                self._fail(httpx.ReadError("the connection ended before the answer"))

    def _finish(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done.done():
            answer.done.set_result(None)

    def _fail(self, error: httpx.TransportError) -> None:
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None and not answer.done.done():
            answer.done.set_exception(error)
