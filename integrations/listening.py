"""Listening sockets, alone on a port or beside other processes of the same user.

The kernel gives every process on a shared port a queue of its own and spreads connections over them. A process that
dies takes its queue with it, and what comes later goes to the others.
"""

import socket
from enum import StrEnum


class Listen(StrEnum):
    """Who else may listen on a process's port."""

    ALONE = "alone"
    FIRST = "first"  # nobody does yet; a successor may come
    BESIDE = "beside"  # whoever is there goes on, for example who is replaced


def open_listener(host: str, port: int, mode: Listen = Listen.ALONE) -> socket.socket:
    """Return a bound socket that does not listen yet.

    Raises:
        OSError: the address cannot be had, or somebody listens there who should not.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if mode is Listen.BESIDE:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if mode is Listen.FIRST:  # only now: a stranger on the port would have gone unnoticed
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)  # noqa: FBT003 - positional only
    except OSError:
        listener.close()
        raise
    return listener
