"""What a client that trusts nobody writes down while it votes, a line for each event, on the disk as it happens."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CONFIRMED, ACCEPTED, NO_ANSWER = 201, 202, 0
CLOSED = "survey_closed"
RIGHT_BALLOT = 0  # the number of what a voter wants; later numbers are second thoughts, which must not count


@dataclass(frozen=True, slots=True)
class Asked:
    """A voter's token, and the ballot that is to count: (question, options) in order."""

    voter: int
    cell: str
    region: str
    nullifier: str  # hexadecimal
    evidence: str  # hexadecimal
    ballot: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Said:
    """One attempt to vote and its answer; `sent` and `heard` are seconds of the client's monotonic clock."""

    voter: int
    door: str  # the process that was asked
    cell: str
    key: str  # its Idempotency-Key
    ballot: int
    sent: float
    heard: float
    status: int  # 0: no answer
    code: str = ""
    receipt: str = ""
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Learnt:
    """What became of a vote that was only accepted."""

    voter: int
    status: str  # confirmed, refused
    heard: float
    receipt: str = ""
    code: str = ""


class Notebook:
    """A file of notes that is written through; `said` and `learnt` have this start's as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[Said] = []
        self.learnt: dict[int, Learnt] = {}  # by voter
        self._file = path.open("w", buffering=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, note: Asked | Said | Learnt) -> None:
        """Add a line."""
        if isinstance(note, Said):
            self.said.append(note)
        elif isinstance(note, Learnt):
            self.learnt[note.voter] = note
        fields = {name: getattr(note, name) for name in note.__slots__}
        self._file.write(json.dumps({"note": type(note).__name__, "at": time.time(), **fields}) + "\n")


@dataclass
class Notes:
    """Everything that a notebook says, by voter."""

    asked: dict[int, Asked] = field(default_factory=dict)
    said: dict[int, list[Said]] = field(default_factory=lambda: defaultdict(list))
    learnt: dict[int, list[Learnt]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a notebook."""
        found = cls()
        for line in path.read_text().splitlines():
            fields: dict[str, Any] = json.loads(line)
            kind = fields.pop("note")
            del fields["at"]
            if kind == "Asked":
                ballot = tuple((question, tuple(options)) for question, options in fields.pop("ballot"))
                found.asked[fields["voter"]] = Asked(ballot=ballot, **fields)
            elif kind == "Said":
                found.said[fields["voter"]].append(Said(**fields))
            else:
                found.learnt[fields["voter"]].append(Learnt(**fields))
        return found

    @property
    def acknowledged(self) -> set[int]:
        """The voters who were told 201 or 202, whatever they were told later."""
        return {voter for voter, said in self.said.items() if any(one.status in {CONFIRMED, ACCEPTED} for one in said)}

    @property
    def confirmed(self) -> set[int]:
        """The voters who hold a receipt."""
        at_once = {voter for voter, said in self.said.items() if any(one.status == CONFIRMED for one in said)}
        later = {voter for voter, found in self.learnt.items() if any(one.status == "confirmed" for one in found)}
        return at_once | later

    @property
    def turned_away(self) -> set[int]:
        """The voters who were told that the survey is closed, and hold no receipt."""
        at_once = {voter for voter, said in self.said.items() if any(one.code == CLOSED for one in said)}
        later = {voter for voter, found in self.learnt.items() if any(one.code == CLOSED for one in found)}
        return (at_once | later) - self.confirmed

    @property
    def only_turned_away(self) -> set[int]:
        """The voters who heard that the survey is closed whenever they asked: no vote of theirs can be on its way."""
        return {voter for voter, said in self.said.items() if all(one.code == CLOSED for one in said)}

    @property
    def twice(self) -> set[int]:
        """The voters who were told of two first votes: confirmed, not as a repeat, under two keys or ballots."""
        found = set()
        for voter, said in self.said.items():
            firsts = {one.key for one in said if one.status == CONFIRMED and not one.replayed}
            if len(firsts) > 1 or any(one.status == CONFIRMED and one.ballot != RIGHT_BALLOT for one in said):
                found.add(voter)
        return found

    @property
    def two_receipts(self) -> set[int]:
        """The voters who hold receipts that differ."""
        found = set()
        for voter in self.asked:
            receipts = {one.receipt for one in self.said.get(voter, []) if one.receipt}
            receipts |= {one.receipt for one in self.learnt.get(voter, []) if one.receipt}
            if len(receipts) > 1:
                found.add(voter)
        return found

    @property
    def refused(self) -> int:
        """How many requests ended with `already_voted`, at once or after they were accepted."""
        at_once = sum(one.code == "already_voted" for one in self.attempts())
        return at_once + sum(one.status == "refused" for found in self.learnt.values() for one in found)

    def attempts(self) -> Iterator[Said]:
        """Return every attempt, in no order."""
        for said in self.said.values():
            yield from said

    def statuses(self) -> dict[int, int]:
        """Return how many attempts ended with each status."""
        counts: dict[int, int] = defaultdict(int)
        for one in self.attempts():
            counts[one.status] += 1
        return dict(sorted(counts.items()))
