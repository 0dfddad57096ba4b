"""Stops listening without turning away who has come already."""

import asyncio
import socket
from collections.abc import Callable


async def close_listener(
    listener: socket.socket, server: asyncio.AbstractServer, connection: Callable[[], asyncio.Protocol]
) -> int:
    """Close a server's socket; who had connected before is served by `connection` like everybody else.

    `listener` is a duplicate of that socket, which keeps the queue while the server lets go of it. What is in the
    queue of a socket when it closes is reset by the kernel; so it is emptied just before, and between the last look
    and the end there is nothing but a system call. Returns how many had been waiting.
    """
    server.close()
    accepted = []
    while (found := _next(listener)) is not None:
        accepted.append(found)
    listener.close()
    loop = asyncio.get_running_loop()
    for each in accepted:
        await loop.connect_accepted_socket(connection, each)
    return len(accepted)


def _next(listener: socket.socket) -> socket.socket | None:
    try:
        found, _ = listener.accept()
    except OSError:  # nobody waits, or there is no descriptor left for them
        return None
    found.setblocking(False)  # noqa: FBT003 - positional only
    return found
