"""The stream's reader against a stream that is cut, answers with heartbeats, and goes on."""

import asyncio
import json

from comitia.demo.events import LiveResults

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nretry: 1000\n\n"


def event(number: int, total: int) -> bytes:
    return f"id: eu:0-{number}\nevent: results\ndata: {json.dumps({'totalResponses': total})}\n\n".encode()


async def test_a_stream_that_is_cut_is_read_on_from_the_last_event() -> None:
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD)
        if len(requests) == 1:
            writer.write(event(1, 5) + b":\n\n" + event(2, 7) + b"id: eu:0-3\nevent: resu")
        else:
            writer.write(b":\n\n" + event(3, 9) + b"event: closed\ndata: {}\n\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        live = LiveResults(f"http://127.0.0.1:{port}", "s_1")
        reading = asyncio.create_task(live.run())
        async with asyncio.timeout(10):
            await live.until(9)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert (live.total, live.events) == (9, 3)
    assert requests[0].startswith(b"GET /v1/surveys/s_1/results/stream HTTP/1.1\r\n")
    assert b"Last-Event-ID" not in requests[0]
    assert b"Last-Event-ID: eu:0-2\r\n" in requests[1]


async def test_a_refused_stream_is_asked_for_again() -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" if asked == 1 else HEAD + event(1, 1))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        live = LiveResults(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "s_1")
        reading = asyncio.create_task(live.run())
        async with asyncio.timeout(10):
            await live.until(1)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert asked >= 2
