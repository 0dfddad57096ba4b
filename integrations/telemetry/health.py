"""A small HTTP server for processes that serve nothing else: `/livez`, `/readyz`, `/metrics`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from integrations.listening import Listen, open_listener
from integrations.telemetry.telemetry import Telemetry

MAX_HEAD: Final = 8 * 1024
REQUEST_S: Final = 5.0
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
_encode: Final = msgspec.json.Encoder().encode

_Answer = tuple[int, str, bytes]


@asynccontextmanager
async def health_server(
    host: str, port: int, telemetry: Telemetry, *, mode: Listen = Listen.ALONE
) -> AsyncIterator[tuple[str, int]]:
    """Serve while the context is open; gives the host and port that are listened on.

    One request per connection, nothing else than GET, every request within 5 s.

    Raises:
        OSError: the address cannot be listened on.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, content_type, body = await _answer(head, telemetry)
                writer.write(_response(status, content_type, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            pass  # a probe that went away or never was one
        finally:
            writer.close()

    server = await asyncio.start_server(handle, sock=open_listener(host, port, mode), limit=MAX_HEAD)
    async with server:
        at_host, at_port = server.sockets[0].getsockname()[:2]
        yield at_host, at_port


async def _answer(head: bytes, telemetry: Telemetry) -> _Answer:
    line, *headers = head.split(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):  # noqa: PLR2004
        return 400, "text/plain", b"not HTTP\n"
    if parts[0] != b"GET":
        return 405, "text/plain", b"only GET\n"
    match parts[1].partition(b"?")[0]:
        case b"/livez":
            return 200, "text/plain", b"ok\n"
        case b"/readyz":
            report = await telemetry.readiness.examine()
            return 200 if report.ready else 503, "application/json", _encode(report)
        case b"/metrics":
            accept = b"".join(line[7:] for line in headers if line[:7].lower() == b"accept:")
            return 200, *telemetry.exposition(accept.decode("latin-1"))
        case _:
            return 404, "text/plain", b"nothing here\n"


def _response(status: int, content_type: str, body: bytes) -> bytes:
    allow = "allow: GET\r\n" if status == 405 else ""  # noqa: PLR2004
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        f"{allow}cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
