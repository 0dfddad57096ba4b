"""Keeps a process that replays to itself: calls that lead out of it are refused, and told of whoever made them."""

import socket
import sys
from typing import Any, Final

_OUTWARD: Final = frozenset(
    {
        *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
        *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"),
        *("subprocess.Popen", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.forkpty"),
        *("sqlite3.connect", "webbrowser.open"),
    }
)
_PAIRED: Final = frozenset({socket.AF_UNIX, -1})  # families of what an event loop wakes itself up with


class ReachedOutError(Exception):
    """Code has tried to reach something outside of its process; says which call that was."""


class Guard:
    """Refuses such calls in this process once it watches, until its end. Python's audit events say what is called."""

    def __init__(self) -> None:
        self._tried = ""

    def watch(self) -> None:
        """Begin: there is no way back."""
        sys.addaudithook(self._called)

    def take(self) -> str:
        """Return the first call that was refused since this was last asked, or nothing."""
        tried, self._tried = self._tried, ""
        return tried

    def _called(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _OUTWARD or (event == "socket.__new__" and arguments[1] not in _PAIRED):
            self._tried = self._tried or event  # whoever makes the call may say nothing of it
            raise ReachedOutError(event)
