"""Serves sandboxes over HTTP, with a way to drop a connection that ASGI itself has not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from integrations.listening import open_listener

DROP: Final = "comitia.drop"  # in `scope["extensions"]`: a function that resets the connection
_STOP_S: Final = 1


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which tells the application how to reset the connection."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {DROP: self.transport.abort}  # type: ignore[dict-item]


class _Server(Server):
    """Uvicorn's server without its hands on the process: signals are its owner's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield


@asynccontextmanager
async def serve_sandboxes(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve while the context is open; gives the address that is listened on, `http://127.0.0.1:8120`.

    Raises:
        OSError: the address cannot be listened on.
    """
    listener = open_listener(host, port)
    config = Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_S,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        while not server.started:
            if serving.done():
                await serving
            await asyncio.sleep(0.005)
        at_host, at_port = listener.getsockname()[:2]
        yield f"http://{at_host}:{at_port}"
    finally:
        server.should_exit = True
        await serving
