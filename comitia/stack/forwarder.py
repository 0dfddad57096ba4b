"""One address for whoever is the primary: for clients that cannot be given two."""

import asyncio
from collections.abc import Callable
from typing import Self

from comitia.stack.ports import HOST
from integrations.addresses import Address

_CONNECT_WITHIN_S = 3.0
_HIGH_WATER_BYTES = 256 * 1024


class Forwarder:
    """Listens on a port and passes bytes on to the address that `target` names when a connection comes.

    `refresh()` ends the connections to every other address: with `PairWatch(pair, changed=forwarder.refresh)` and
    `target=lambda: pair.primary.address` nobody stays connected to a server that lost its part. It decides nothing:
    a connection that reaches an old primary after all is one whose commits never come back.
    """

    def __init__(self, port: int, target: Callable[[], Address]) -> None:
        self.address = Address(host=HOST, port=port)
        self._target = target
        self._pipes: set[_Pipe] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pipe(self._target, self._pipes), HOST, self.address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no longer, and end every connection."""
        assert self._server is not None
        self._server.close()
        for pipe in tuple(self._pipes):
            pipe.abort()
        await self._server.wait_closed()

    def refresh(self) -> None:
        """End the connections that lead to anybody but the present target."""
        target = self._target()
        for pipe in tuple(self._pipes):
            if pipe.target != target:
                pipe.abort()


class _Pipe(asyncio.Protocol):
    """The client's side of one connection; what it sends waits until the server's side is there."""

    def __init__(self, target: Callable[[], Address], pipes: "set[_Pipe]") -> None:
        self.target = target()
        self._pipes = pipes
        self._transport: asyncio.Transport | None = None
        self._far = _Far(self)
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        transport.pause_reading()
        self._pipes.add(self)
        self._connecting = asyncio.create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        self._far.write(data)

    def write(self, data: bytes) -> None:
        """Send to the client."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._far.read(on=False)

    def resume_writing(self) -> None:
        self._far.read(on=True)

    def read(self, *, on: bool) -> None:
        """Take from the client, or let it wait."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def connection_lost(self, _: Exception | None) -> None:
        self._pipes.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        self._far.close()

    def close(self) -> None:
        """End the client's side once it has what was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End both sides at once."""
        if self._transport is not None:
            self._transport.abort()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: self._far, self.target.host, self.target.port)
        except (OSError, TimeoutError):
            self.abort()
        else:
            self.read(on=True)


class _Far(asyncio.Protocol):
    """The server's side of a connection."""

    def __init__(self, near: _Pipe) -> None:
        self._near = near
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        self._near.write(data)

    def write(self, data: bytes) -> None:
        """Send to the server."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._near.read(on=False)

    def resume_writing(self) -> None:
        self._near.read(on=True)

    def read(self, *, on: bool) -> None:
        """Take from the server, or let it wait."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def connection_lost(self, _: Exception | None) -> None:
        self._near.close()

    def close(self) -> None:
        """End the server's side."""
        if self._transport is not None:
            self._transport.close()
