import asyncio

import pytest

from api.http.lean import LeanRequest, LeanRoute
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
async def test_a_detached_transport_belongs_to_its_taker():
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
async def test_a_stream_that_does_not_end_is_cut_off():
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
async def test_open_requests_are_finished():
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
async def test_what_does_not_finish_is_cut_off():
    async with serving(stop_s=1) as served:
        wire = await served.connect()
        wire.send(post("/v1/held"))
        await served.holds(1)
        served.stop.set()
        assert await wire.closed()
        await served.done
        await until(lambda: served.held[0].disconnected)
