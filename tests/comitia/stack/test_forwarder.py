import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from comitia.stack.forwarder import Forwarder
from comitia.stack.ports import HOST, free_port
from integrations.addresses import Address

BIG = 4 * 1024 * 1024


@asynccontextmanager
async def echo(greeting: bytes) -> AsyncIterator[Address]:
    """A server that greets, and then says again whatever it hears."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield Address(host=HOST, port=server.sockets[0].getsockname()[1])


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        async with asyncio.timeout(30):
            yield reader, writer
    finally:
        writer.close()


async def test_bytes_pass_in_both_directions_and_a_switch_ends_connections_to_the_old_target() -> None:
    async with AsyncExitStack() as opened:
        targets = [await opened.enter_async_context(echo(name)) for name in (b"one", b"two")]
        present = targets[0]
        forwarder = await opened.enter_async_context(Forwarder(free_port([]), lambda: present))

        async with connected(forwarder.address) as (reader, writer):
            assert await reader.readexactly(3) == b"one"
            writer.write(b"x" * BIG)
            assert await reader.readexactly(BIG) == b"x" * BIG
            forwarder.refresh()
            writer.write(b"still")
            assert await reader.readexactly(5) == b"still"
            present = targets[1]
            forwarder.refresh()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        async with connected(forwarder.address) as (reader, _):
            assert await reader.readexactly(3) == b"two"


async def test_a_target_that_nobody_serves_ends_the_connection() -> None:
    nowhere = Address(host=HOST, port=free_port([]))
    async with (
        Forwarder(free_port([nowhere.port]), lambda: nowhere) as forwarder,
        connected(forwarder.address) as (reader, _),
    ):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
