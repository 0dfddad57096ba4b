"""The client against a server that says exactly what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from comitia.demo.client import HttpClient, NoAnswerError

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"way":"a"}'
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served_by(serve: Serve) -> AsyncIterator[HttpClient]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    client = HttpClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        try:
            yield client
        finally:
            client.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def test_a_connection_serves_one_request_after_the_other() -> None:
    seen: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            seen.append(await read_request(reader))
            writer.write(OK)

    async with served_by(serve) as client:
        first = await client.request("POST", "/one", token="t", body={"a": 1}, headers={"Idempotency-Key": "k"})
        second = await client.request("GET", "/two")
    assert (first.status, first.json(), second.status) == (200, {"way": "a"}, 200)
    assert connections == 1
    assert seen[0].startswith(b"POST /one HTTP/1.1\r\n")
    assert b"Authorization: Bearer t\r\n" in seen[0]
    assert b"Idempotency-Key: k\r\n" in seen[0]
    assert seen[0].endswith(b'\r\n\r\n{"a":1}')
    assert seen[1].startswith(b"GET /two HTTP/1.1\r\n")


async def test_an_answer_may_come_in_pieces() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in OK:
            writer.write(bytes([byte]))
            await writer.drain()

    async with served_by(serve) as client:
        assert (await client.request("GET", "/")).json() == {"way": "a"}


async def test_a_connection_that_ends_first_is_no_answer_and_the_next_request_gets_another() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(OK[:-3] if connections == 1 else OK)

    async with served_by(serve) as client:
        with pytest.raises(NoAnswerError):
            await client.request("GET", "/")
        assert (await client.request("GET", "/")).status == 200


async def test_the_answer_to_an_abandoned_request_is_nobody_elses() -> None:
    waiting = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if b"/slow" in request:
            waiting.set()
            await reader.read()
        writer.write(OK)

    async with served_by(serve) as client:
        abandoned = asyncio.create_task(client.request("GET", "/slow"))
        await waiting.wait()
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
        assert (await client.request("GET", "/quick")).json() == {"way": "a"}


async def test_a_request_that_is_cut_off_arrives_whole() -> None:
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await reader.read())

    async with served_by(serve) as client:
        await client.cut_off("POST", "/vote", body={"answers": []})
        async with asyncio.timeout(5):
            assert (await arrived).endswith(b'\r\n\r\n{"answers":[]}')


async def test_nobody_listens() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(NoAnswerError):
        await HttpClient(f"http://127.0.0.1:{port}").request("GET", "/")
