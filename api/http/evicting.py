"""Makes room for a new connection by closing those that have waited longest for nothing."""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Final, Protocol

AT_ONCE: Final = 64  # looking for idle connections costs as much for one as for many


class Idle(Protocol):
    """A connection, as far as evicting it goes."""

    since: float

    @property
    def idle(self) -> bool:
        """Whether it is between requests and open."""
        ...

    def evict(self) -> None:
        """Close it."""
        ...


def make_room(connections: Iterable[Idle], newest: Idle) -> int:
    """Close up to `AT_ONCE` idle connections, those first that have been idle for longest; return how many."""
    found = nsmallest(
        AT_ONCE,
        (each for each in connections if each is not newest and each.idle),
        key=lambda connection: connection.since,
    )
    for connection in found:
        connection.evict()
    return len(found)
