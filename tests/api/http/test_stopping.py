import asyncio
import itertools
import socket
from typing import cast

import pytest

from api.http.lean import LeanRequest, LeanRoute
from api.http.listening import close_listener
from integrations.listening import open_listener
from tests.api.http.test_protocol import on_uvloop
from tests.api.http.wire import get, post, serving, until


class Stream(asyncio.Protocol):
    """What a service does with a detached transport."""

    def __init__(self, request: LeanRequest) -> None:
        self.lost = False
        self.transport = request.detach(self.stop)
        self.transport.set_protocol(self)
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nid: 1\ndata: {}\n\n")

    def stop(self) -> None:
        self.transport.write(b"event: end\n\n")
        self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True


@on_uvloop
async def test_a_detached_transport_belongs_to_its_taker() -> None:
    streams: list[Stream] = []
    route = LeanRoute("GET", "/stream", lambda request: streams.append(Stream(request)))
    async with serving([route], keep_alive_s=0.05, head_s=0.05) as served:
        wire = await served.connect()
        wire.send(get("/stream") + get("/livez"))
        assert (await wire.reader.readuntil(b"\n\n")).endswith(b"data: {}\n\n")
        await asyncio.sleep(0.15)  # no deadline of ours reaches it
        streams[0].transport.write(b"data: 2\n\n")
        assert await wire.reader.readuntil(b"\n\n") == b"data: 2\n\n"
        gone = await served.connect()
        gone.send(get("/stream"))
        await gone.reader.readuntil(b"\n\n")
        gone.writer.close()
        await until(lambda: streams[1].lost)
        served.stop.set()
        assert await wire.reader.read() == b"event: end\n\n"
        await served.done
        assert streams[0].lost


@on_uvloop
async def test_a_stream_that_does_not_end_is_cut_off() -> None:
    def broken() -> None:
        raise ValueError("cannot end")

    def take(request: LeanRequest) -> None:
        transport = request.detach(broken)
        transport.set_protocol(asyncio.Protocol())
        transport.write(b"x")

    async with serving([LeanRoute("GET", "/stream", take)], linger_s=0.1) as served:
        wire = await served.connect()
        wire.send(get("/stream"))
        assert await wire.reader.readexactly(1) == b"x"
        served.stop.set()
        assert await wire.closed()
        await served.done


@on_uvloop
async def test_open_requests_are_finished() -> None:
    async with serving() as served:
        lean, asgi, idle = await served.connect(), await served.connect(), await served.connect()
        partial = await served.connect()
        await idle.ask(post())
        lean.send(post("/v1/held"))
        asgi.send(get("/slow/0.3"))
        partial.send(post()[:-5])
        late = await served.connect()
        late.send(get("/livez")[:-2])
        await served.holds(1)
        assert (await idle.ask(get("/readyz"))).status == 200
        served.stop.set()
        assert await idle.closed()
        with pytest.raises(ConnectionError):
            await served.connect()
        partial.send(post()[-5:])
        late.send(b"\r\n")
        served.held[0].respond(200, b"in time")
        for wire in (partial, late, lean, asgi):
            answer = await wire.answer()
            assert answer.status in {200, 201}
            assert answer.headers["connection"] == "close"
            assert await wire.closed()
        await served.done
        assert served.telemetry.readiness.stopping


@on_uvloop
async def test_what_does_not_finish_is_cut_off() -> None:
    async with serving(stop_s=1) as served:
        wire = await served.connect()
        wire.send(post("/v1/held"))
        await served.holds(1)
        served.stop.set()
        assert await wire.closed()
        await served.done
        await until(lambda: served.held[0].disconnected)


@on_uvloop
async def test_a_lame_duck_serves_and_says_that_it_goes() -> None:
    async with serving(lame_duck_s=3, idle_s=0.1) as served:
        kept = await served.connect()
        assert "connection" not in (await kept.ask(post())).headers
        served.stop.set()
        await until(lambda: served.telemetry.readiness.stopping)
        late = await served.connect()
        for wire in (kept, late):
            answer = await wire.ask(post())
            assert (answer.status, answer.headers["connection"]) == (201, "close")
            assert await wire.closed()
        assert (await (await served.connect()).ask(get("/readyz"))).status == 503
        await served.done


@on_uvloop
async def test_a_request_that_comes_on_an_idle_connection_is_answered() -> None:
    async with serving(idle_s=10) as served:
        idle, fresh = await served.connect(), await served.connect()
        await idle.ask(post())
        served.stop.set()
        await served.refuses()
        for wire in (idle, fresh):
            answer = await wire.ask(post())
            assert (answer.status, answer.headers["connection"]) == (201, "close")
            assert await wire.closed()
        await served.done


@on_uvloop
async def test_idle_connections_are_closed_within_their_time() -> None:
    async with serving(idle_s=0.3) as served:
        wires = [await served.connect() for _ in range(50)]
        await asyncio.gather(*(wire.ask(post()) for wire in wires))
        served.stop.set()
        assert all(await asyncio.gather(*(wire.closed() for wire in wires)))
        await served.done


@on_uvloop
async def test_streams_are_told_a_few_at_a_time() -> None:
    told: list[float] = []
    loop = asyncio.get_running_loop()

    def take(request: LeanRequest) -> None:
        def end() -> None:
            told.append(loop.time())
            transport.close()

        transport = request.detach(end)
        transport.set_protocol(asyncio.Protocol())
        transport.write(b"x")

    async with serving([LeanRoute("GET", "/stream", take)], handed_over_per_s=500, handover_s=10) as served:
        wires = [await served.connect() for _ in range(60)]
        for wire in wires:
            wire.send(get("/stream"))
            await wire.reader.readexactly(1)
        served.stop.set()
        assert all(await asyncio.gather(*(wire.closed() for wire in wires)))
        await served.done
    assert len(told) == 60
    turns = [0, *(n for n in range(1, 60) if told[n] - told[n - 1] > 0.01), 60]
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 10  # 20 ms of 500 a second


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class LetGo:
    """A server that polls its socket no longer."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def close(self) -> None:
        self._listener.close()


@on_uvloop
async def test_who_waits_in_the_queue_of_a_closing_listener_is_served() -> None:
    listener = open_listener("127.0.0.1", 0)
    listener.listen(100)
    port = listener.getsockname()[1]
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
    for _, writer in waiting[::2]:
        writer.write(b"hello")
    duplicate = listener.dup()
    server = cast("asyncio.AbstractServer", LetGo(listener))
    assert await close_listener(duplicate, server, Echo) == 30
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)
    for _, writer in waiting[1::2]:
        writer.write(b"hello")
    for reader, writer in waiting:
        assert await reader.read() == b"hello"
        writer.close()
