"""What tests ask about processes that are not their children."""

import time
from collections.abc import Iterable
from pathlib import Path


def alive(pid: int) -> bool:
    """A zombie has ended: only whoever started it has not looked yet."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> set[int]:
    return {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def family_of(pid: int) -> set[int]:
    """A process and all that descend from it."""
    return {pid}.union(*(family_of(child) for child in children_of(pid)))


def gone(pids: Iterable[int], within_s: float = 20.0) -> set[int]:
    """Wait until none of them lives; return those that still do at the end."""
    left, until = set(pids), time.monotonic() + within_s
    while left and time.monotonic() < until:
        left = {pid for pid in left if alive(pid)}
        time.sleep(0.02)
    return left
