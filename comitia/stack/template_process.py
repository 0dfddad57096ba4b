"""`python -m comitia.stack.template_process SOCKET`: imports what applications need once, then forks them as asked.

Each line that comes is one order in JSON, answered by lines with the order's id: the process id from the child itself,
once it leads its own session, and from here the status with which it ended. Nothing here may start a thread, open a
connection or make a key before a fork: every child would have it too.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from integrations.death import die_with

Order = dict[str, Any]

_CHUNK_BYTES = 1 << 16
_NAME_MAX = 15  # characters of the name that `ps -o comm` and `top` show


def main() -> None:
    """Serve orders until the other end closes the socket; in a child, be the application that was ordered."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what all of them share is left where it is
    order = _serve(connection)
    if order is not None:
        importlib.import_module(f"{order['arguments'][0]}.__main__").main()


def _serve(connection: socket.socket) -> Order | None:
    """Fork for every order. Returns in a child, with its order, and at the end of all orders with None."""
    ended, ending = os.pipe()
    for end in (ended, ending):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(ending)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # looked at below, where the wake-up is read
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    children: dict[int, int] = {}
    unread = b""
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if ended in ready:
            os.read(ended, _CHUNK_BYTES)
            _tell_ends(connection, children)
        if connection not in ready:
            continue
        received = connection.recv(_CHUNK_BYTES)
        if not received:
            return None
        *lines, unread = (unread + received).split(b"\n")
        for line in lines:
            order: Order = json.loads(line)
            parent = os.getpid()
            child = os.fork()
            if child == 0:
                selector.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(ended)
                os.close(ending)
                _become(order, parent, connection)
                return order
            children[child] = order["id"]


def _tell_ends(connection: socket.socket, children: dict[int, int]) -> None:
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        _tell(connection, id=children.pop(child), status=os.waitstatus_to_exitcode(status))


def _become(order: Order, parent: int, connection: socket.socket) -> None:
    """Take on what a command started afresh would have: a session, its output, its variables and arguments."""
    os.setsid()
    die_with(parent, signal.Signals(order["death_signal"]))()
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[:] = order["arguments"]
    with suppress(OSError):  # where there is no such file, it keeps the template's name
        Path("/proc/self/comm").write_text("-".join(order["arguments"])[:_NAME_MAX])
    _tell(connection, id=order["id"], pid=os.getpid())
    connection.close()


def _tell(connection: socket.socket, **fields: int) -> None:
    connection.sendall(json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    main()
