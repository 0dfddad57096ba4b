"""A small HTTP/1.1 client: keep-alive, one request at a time on each connection, no more than this command needs."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

_ANSWER_WITHIN_S = 30.0
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON. Raises ValueError where it is none."""
        return json.loads(self.body)


class NoAnswerError(ConnectionError):
    """The connection ended, or nothing came in time: whether the request was served is not known."""


class _Connection(asyncio.Protocol):
    def __init__(self, client: "HttpClient") -> None:
        self._client = client
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is registered as no such class

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0 or self._answer is None:
            return
        status, headers = read_head(self._received[:head_end])
        end = head_end + len(_HEAD_END) + int(headers.get("content-length", "0"))
        if len(self._received) < end:
            return
        answer, self._answer = self._answer, None
        body, self._received = self._received[head_end + len(_HEAD_END) : end], b""
        if not answer.done():
            answer.set_result(Answer(status, headers, body))
        if headers.get("connection", "").lower() == "close" and self.transport is not None:
            self.transport.close()
        else:
            self._client.release(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._client.forget(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswerError(str(exc or "the connection was closed")))

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        if self.transport is None:
            raise NoAnswerError("the connection was closed")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer


class HttpClient:
    """Requests to one service; as many connections as requests at once. Close it with `close()`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def request(
        self, method: str, path: str, *, token: str = "", body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, `body` as JSON, and return its answer whatever the status.

        Raises:
            NoAnswerError: nobody answered.
        """
        data = self._encoded(method, path, token, body, headers)
        connection = await self._take()
        answer = connection.send(data)
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await answer
        except TimeoutError:
            raise NoAnswerError(f"no answer within {_ANSWER_WITHIN_S:.0f} s") from None
        finally:
            if connection.transport is not None and (not answer.done() or answer.cancelled()):
                connection.transport.abort()  # its answer would be taken for the next one's

    async def cut_off(
        self, method: str, path: str, *, token: str = "", body: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole request and hang up without waiting for the answer.

        Raises:
            NoAnswerError: nobody listens.
        """
        connection = await self._connect()
        assert connection.transport is not None
        connection.transport.write(self._encoded(method, path, token, body, headers))
        connection.transport.close()  # after what is written was sent

    def release(self, connection: _Connection) -> None:
        """Take a connection back for the next request."""
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """Note that a connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in tuple(self._open):
            if connection.transport is not None:
                connection.transport.abort()

    async def _take(self) -> _Connection:
        return self._idle.pop() if self._idle else await self._connect()

    async def _connect(self) -> _Connection:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, self._port
            )
        except OSError as error:
            raise NoAnswerError(str(error)) from error
        self._open.add(connection)
        return connection

    def _encoded(self, method: str, path: str, token: str, body: object, headers: Mapping[str, str] | None) -> bytes:
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(content)}"]
        if content:
            lines.append("Content-Type: application/json")
        if token:
            lines.append(f"Authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers of a response's head, without its last empty line."""
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in fields}
