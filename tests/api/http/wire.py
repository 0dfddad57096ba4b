"""A server in this process and a client that writes bytes, both on uvloop as in production."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop
from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from api.composition import Service
from api.http.application import create_application
from api.http.lean import LeanRequest, LeanRoute
from api.http.serving import serve
from api.http.shared import ServingLimits
from domain.priorities import Work
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import Telemetry, make_telemetry

BODY = b'{"answers":[]}'
PIECE = 64 * 1024  # of a file of the test's application, which has as many as its number says


def run(scenario: Coroutine[Any, Any, None], *, within_s: float = 20) -> None:
    """Run a scenario on uvloop, for at most so long."""

    async def bounded() -> None:
        async with asyncio.timeout(within_s):
            await scenario

    uvloop.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody announces; `run` bounds it."""
    while not condition():
        await asyncio.sleep(0.001)


def telemetry_for_tests() -> Telemetry:
    return make_telemetry(Settings(environment=Environment.TEST), "test")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def transport(self) -> asyncio.Transport:
        return cast("asyncio.Transport", self.writer.transport)  # a socket's reads, too

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *rest = head[:-4].decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(line.split(" ")[1]), headers, body)

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer()

    async def closed(self) -> bool:
        """Whether the server sends nothing more and closes."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True

    def reset(self) -> None:
        """Go away as a crashed client does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def post(path: str = "/v1/surveys/s_1/vote", body: bytes = BODY, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: x", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}"]).encode() + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


@dataclass
class Served:
    """A running server; `held` are the requests of the route `/v1/held`, which nobody has answered yet."""

    port: int
    stop: asyncio.Event
    done: asyncio.Task[None]
    telemetry: Telemetry
    held: list[LeanRequest]
    wires: list[Wire] = field(default_factory=list)

    async def connect(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**22))
        self.wires.append(wire)
        return wire

    async def refuses(self) -> None:
        """Wait until nobody listens any more."""
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionError:
                return
            writer.close()

    def connections(self) -> float | None:
        """How many connections the server counts."""
        return self.telemetry.registry.get_sample_value("http_connections")

    def count(self, method: str, route: str, status: str) -> float | None:
        """How many answers the server counts."""
        labels = {"method": method, "route": route, "status": status}
        return self.telemetry.registry.get_sample_value("http_requests_total", labels)

    async def holds(self, count: int) -> None:
        """Wait until so many requests are held."""
        await until(lambda: len(self.held) >= count)


def echo(request: LeanRequest) -> None:
    request.respond(201, request.body or request.parameter.encode())


def application(telemetry: Telemetry) -> FastAPI:
    app = create_application("test", telemetry)

    @app.get("/slow/{seconds}")
    async def slow(seconds: float) -> dict[str, float]:
        await asyncio.sleep(seconds)
        return {"slept": seconds}

    @app.get("/client")
    async def client(request: Request) -> Response:
        return Response(request.client.host if request.client else "")

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            raise ValueError("two")

        return StreamingResponse(pieces(), media_type="text/plain")

    @app.get("/v1/surveys/{survey_id}/ballots/{number}")
    async def file(survey_id: str, number: int) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(number):
                yield bytes(PIECE)

        return StreamingResponse(pieces(), headers={"content-length": str(number * PIECE)})

    @app.post("/body")
    async def body(given: dict[str, Any]) -> dict[str, Any]:
        return given

    return app


@contextlib.asynccontextmanager
async def serving(
    routes: Sequence[LeanRoute] = (),
    *,
    trusted: Sequence[str] = (),
    extend: Callable[[FastAPI, Telemetry], None] = lambda app, telemetry: None,
    **limits: Any,
) -> AsyncIterator[Served]:
    telemetry = telemetry_for_tests()
    app = application(telemetry)
    extend(app, telemetry)
    held: list[LeanRequest] = []
    all_routes = [
        # No test on a busy machine is to be refused for load where load is not what it is about
        LeanRoute("POST", "/v1/surveys/{id}/vote", echo, body_limit_bytes=1000, work=Work.OPERATION),
        LeanRoute("POST", "/v1/held", held.append, work=Work.OPERATION),
        *routes,
    ]
    stop = asyncio.Event()
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done = asyncio.create_task(
        serve(
            Service(app, all_routes),
            telemetry,
            stop,
            limits=ServingLimits(**{"sweep_s": 0.02, "stop_s": 2, **limits}),
            trusted_proxies=trusted,
            on_started=lambda _, port: started.set_result(port),
        )
    )
    served = Served(await started, stop, done, telemetry, held)
    try:
        yield served
    finally:
        stop.set()
        for wire in served.wires:
            wire.writer.close()
        async with asyncio.timeout(8):
            await done
