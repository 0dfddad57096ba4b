import socket
import subprocess
import sys
from contextlib import closing

import pytest

from integrations.listening import Listen, open_listener

HOST = "127.0.0.1"


def listening(port: int, mode: Listen) -> socket.socket:
    listener = open_listener(HOST, port, mode)
    listener.listen(200)
    return listener


def accepted(listener: socket.socket) -> int:
    found = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return found
        found += 1


@pytest.mark.parametrize("mode", list(Listen))
def test_a_port_is_taken_once(mode: Listen) -> None:
    with closing(listening(0, mode)) as first:
        port = first.getsockname()[1]
        for other in (Listen.ALONE, Listen.FIRST):
            with pytest.raises(OSError, match="in use"):
                open_listener(HOST, port, other)


def test_alone_means_alone() -> None:
    with closing(listening(0, Listen.ALONE)) as first, pytest.raises(OSError, match="in use"):
        open_listener(HOST, first.getsockname()[1], Listen.BESIDE)


def test_connections_are_spread_and_go_to_who_is_left() -> None:
    with closing(listening(0, Listen.FIRST)) as first:
        port = first.getsockname()[1]
        second = listening(port, Listen.BESIDE)
        clients = [socket.create_connection((HOST, port)) for _ in range(100)]
        shares = accepted(first), accepted(second)
        assert sum(shares) == 100
        assert min(shares) > 10
        second.close()
        clients += [socket.create_connection((HOST, port)) for _ in range(100)]
        assert accepted(first) == 100
        for client in clients:
            client.close()


def test_a_dead_process_leaves_the_port_to_others() -> None:
    code = f"import integrations.listening as l; s = l.open_listener({HOST!r}, 0, l.Listen.FIRST); s.listen(); "
    dying = subprocess.Popen(
        [sys.executable, "-c", code + "print(s.getsockname()[1], flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with dying:
        assert dying.stdout is not None
        port = int(dying.stdout.readline())
        with closing(listening(port, Listen.BESIDE)) as left:
            dying.kill()
            dying.wait()
            clients = [socket.create_connection((HOST, port)) for _ in range(20)]
            assert accepted(left) == 20
            for client in clients:
                client.close()
