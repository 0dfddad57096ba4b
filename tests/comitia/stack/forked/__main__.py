"""A process to be forked: `show` says what it is like and ends with status 3, `wait` waits for a signal."""

import atexit
import os
import signal
import sys
import threading
from pathlib import Path

from tests.comitia.stack.forked import part


def main() -> None:
    if sys.argv[1] == "wait":
        sys.stdout.write("waiting\n")
        sys.stdout.flush()
        threading.Event().wait()
    atexit.register(sys.stdout.write, "said on the way out\n")
    listed = list(Path("/proc/self/fd").iterdir())  # and the list itself, which is gone now
    open_now = sorted(path.name for path in listed if path.exists())
    lines = (
        f"arguments {' '.join(sys.argv)}",
        f"name {Path('/proc/self/comm').read_text().strip()}",
        f"variables {' '.join(os.environ)}",
        f"leads its session {os.getsid(0) == os.getpgid(0) == os.getpid()}",
        f"imported before {os.getppid() == part.IMPORTED_BY}",
        f"input {sys.stdin.read()!r}",
        f"told of children {signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL}",
        f"woken by signals {signal.set_wakeup_fd(-1) != -1}",
        f"descriptors {' '.join(open_now)}",
    )
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.exit(3)
