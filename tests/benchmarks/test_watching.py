"""What event streams showed, set against what was a fact when."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.load.streams import Reader, StreamSpec
from benchmarks.watching import delays_ms, read_arrivals, watching


def test_a_total_is_seen_with_the_first_event_that_shows_it_or_more() -> None:
    delays, unseen = delays_ms([1.0, 1.1, 1.2], [(0, 0.9), (1, 1.05), (3, 1.3)])

    assert delays == pytest.approx([50, 200, 100])
    assert unseen == 0


def test_what_never_shows_is_counted() -> None:
    delays, unseen = delays_ms([1.0, 1.1, 1.2], [(2, 1.3)])

    assert len(delays) == 2
    assert unseen == 1


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def test_every_event_of_every_stream_is_noted(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        writer.write(b'id: 1\ndata: {"totalResponses":0}\n\n: hea')
        await go.wait()
        for piece in (b'rtbeat\n\ndata: {"total', b'Responses":12,"x":1}\n\n'):
            writer.write(piece)
            await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        spec = StreamSpec(server.sockets[0].getsockname()[1], "/", 3, str(tmp_path / "arrivals"), limit_s=20)
        reader, ended = Reader(spec), asyncio.Event()
        running = asyncio.create_task(reader.run(ended))
        await until(lambda: reader.events == 3)
        go.set()
        await until(lambda: reader.events == 6)
        ended.set()
        result = await running
        server.close()

    assert (result.opened, result.lost, result.events) == (3, 0, 6)
    assert [[total for total, _ in seen] for seen in read_arrivals(tmp_path / "arrivals", 3)] == [[0, 12]] * 3


async def test_a_reader_of_its_own_process_ends_with_the_block(tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\n\r\ndata: {"totalResponses": 7}\n\n')
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with watching(port, "/", 2, tmp_path / "arrivals", limit_s=20) as watched:
            pass
        server.close()

    assert [[total for total, _ in seen] for seen in watched.arrivals] == [[7], [7]]
    assert not (tmp_path / "arrivals").exists()
