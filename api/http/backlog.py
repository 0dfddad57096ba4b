"""How many connections wait in the kernel to be accepted."""

import socket
import struct
from typing import Final

_UNACKED_AT: Final = 24  # bytes into struct tcp_info (linux/tcp.h); of a listening socket it is the accept queue
_INFO_BYTES: Final = 104


def waiting_to_be_accepted(listener: socket.socket) -> int:
    """Return the length of a listening socket's queue; 0 where the kernel does not say, or it is closed."""
    try:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except (OSError, AttributeError):  # closed by now, or not Linux
        return 0
    found: int = struct.unpack_from("=I", info, _UNACKED_AT)[0]
    return found
