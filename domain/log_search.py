"""Finding entries of an audit log by what they say: which are found follows from what is sealed, and from nothing else.

Batches of votes are not looked for: nobody acted, and their receipts lead to them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from domain.audit import AuditKind


@dataclass(frozen=True, slots=True)
class IndexedEntry:
    """What an entry is found by, and its place. `actor` and `subject` are empty where it names none."""

    index: int
    occurred_at: datetime
    kind: str
    actor: str
    subject: str


@dataclass(frozen=True, slots=True)
class Sought:
    """What entries have to say; None takes anything. They are from `since` on, and before `until`."""

    subject: str | None = None
    kind: str | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class EntrySearch(Protocol):
    """Finds places in one log. Calls raise DomainError `audit_log_unavailable`."""

    async def size(self) -> int:
        """Return up to which place everything is found."""
        ...

    async def find(self, sought: Sought, before: int, most: int) -> Sequence[IndexedEntry]:
        """Return the last `most` entries before a place, the newest first."""
        ...


class SearchIndex(Protocol):
    """What one log is searched in. Calls raise DomainError `audit_log_unavailable`."""

    async def size(self) -> int:
        """Return up to which place it is complete."""
        ...

    async def extend(self, first: int, end: int, entries: Sequence[IndexedEntry]) -> int:
        """Take up what is to be found between two places, if it is complete up to the first; return its size.

        Safe to repeat, and at once by many: one of them goes on.
        """
        ...

    async def between(self, first: int, end: int) -> Sequence[IndexedEntry]:
        """Return what it has between two places, in their order."""
        ...

    async def replace(self, first: int, end: int, entries: Sequence[IndexedEntry]) -> None:
        """Have exactly this between two places. Safe to repeat."""
        ...

    async def reach(self) -> int:
        """Return the first place behind everything that it has or says that it has."""
        ...

    async def end(self, size: int) -> None:
        """Be complete up to this place and have nothing beyond, which whoever follows takes up again."""
        ...


def indexed(index: int, leaf: bytes) -> IndexedEntry | None:
    """Return what a sealed entry is found by, or None for a batch of votes.

    Raises:
        ValueError: this is no entry of a log.
    """
    try:
        entry: dict[str, Any] = json.loads(leaf)
        kind, occurred_at, body = str(entry["kind"]), datetime.fromisoformat(entry["at"]), entry["body"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"entry {index} is none") from error
    if kind == AuditKind.VOTES_RECORDED:
        return None
    told = body if isinstance(body, dict) else {}
    return IndexedEntry(index, occurred_at, kind, _text(told.get("actor")), _text(told.get("subject")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
