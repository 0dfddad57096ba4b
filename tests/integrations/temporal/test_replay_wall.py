"""Behind the wall nothing leads out of a process, by whatever means, and what it needs itself goes on."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

TRIES = """
import ctypes, errno, os, socket, sys, threading
from integrations.temporal.replay_wall import stand

assert stand()
path = sys.argv[1].encode()
libc = ctypes.CDLL(None, use_errno=True)
near, there = socket.socketpair()
near.send(b"x")
assert there.recv(1) == b"x"
address = b"\\x01\\x00" + path + bytes(1)
local = socket.socket(socket.AF_UNIX)
tries = {
    "a socket": lambda: libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0),
    "another": lambda: libc.socket(socket.AF_INET6, socket.SOCK_DGRAM, 0),
    "a server of this machine": lambda: libc.connect(local.fileno(), address, len(address)),
    "a place of its own": lambda: libc.bind(local.fileno(), address + b"2", len(address) + 1),
    "a program": lambda: libc.execv(b"/bin/true", (ctypes.c_char_p * 2)(b"true", None)),
    "a ring": lambda: libc.syscall(425, 8, bytes(120)),
}

def refused(name):
    ctypes.set_errno(0)
    assert tries[name]() == -1, name
    assert ctypes.get_errno() == errno.EACCES, (name, ctypes.get_errno())
    print(name)

def all_refused():
    for name in tries:
        refused(name)

thread = threading.Thread(target=all_refused)
thread.start()
thread.join()
child = os.fork()
if child == 0:
    refused("a program")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}, reason="no such filter")
def test_the_kernel_refuses_what_leads_out(tmp_path: Path) -> None:
    with subprocess.Popen((sys.executable, "-c", SERVER, str(tmp_path / "server")), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        done = subprocess.run(
            (sys.executable, "-c", TRIES, str(tmp_path / "server")), capture_output=True, text=True, check=False
        )
        server.kill()
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(done.stdout.splitlines())) == 6


SERVER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listens", flush=True)
listener.accept()
"""
