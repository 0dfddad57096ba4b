"""File descriptors: each connection is one, and a process that has none left can do nothing, not even refuse."""

import resource
from typing import Final

RESERVE: Final = 128  # for databases, brokers, files, and the connection that is about to be refused
_ENOUGH: Final = 65_536
_FEWEST: Final = 16


def raise_limit() -> None:
    """Raise our soft limit to what we may have, or to more than we would ever use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_within(wanted: int) -> int:
    """Return how many connections may be open at once: as many as wanted, or as descriptors allow for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(_FEWEST, soft - RESERVE))
