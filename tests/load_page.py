"""The table of what waits, in docs/load.md."""

import re
from pathlib import Path
from typing import NamedTuple

_PAGE = Path(__file__).parents[1] / "docs" / "load.md"


class Queue(NamedTuple):
    """A row: what waits, its bound, which processes have it, what it is seen as, and what happens when it is full."""

    name: str
    bound: str
    where: str
    seen: str
    full: str

    @property
    def processes(self) -> list[str]:
        """Patterns of their names; none where it is not in a process of ours."""
        return re.findall(r"`([^`]+)`", self.where)

    @property
    def metrics(self) -> set[str]:
        return set(re.findall(r"`([a-z_]+_[a-z_]+)`", self.seen))


def queues() -> list[Queue]:
    """Return the rows of the table."""
    text = _PAGE.read_text().partition("## What waits, and where it ends")[2]
    rows = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [Queue(*(cell.strip() for cell in row[1:-1].split("|"))) for row in rows[2:]]
