"""The import of an electoral roll: out of a file, in chunks into the cells, the outcome of each row into a report.

The report is where an import that was interrupted goes on: what is in it is done. A chunk that was in the database
before its lines were in the report is done again, which changes nothing but "enrolled" into "already_enrolled".
"""

import csv
import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from domain.accounts import KeyedHash, LookupHashes, claiming_cell
from domain.ids import cell_of_voter, new_person_id
from domain.proofing import Document
from domain.rolls import RollEntry, RollOutcome, check_columns, entry_of
from integrations.postgres.rolls import NamedPerson, PostgresRolls

CHUNK = 500  # rows in one go
_REPORT_COLUMNS = "row,line,outcome,cell"


class OtherReportError(Exception):
    """The report belongs to another import."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: its number from 1, the line on which it ends, and whom it names."""

    number: int
    line: int
    entry: RollEntry | None


Outcome = tuple[RollOutcome, str]  # and the cell of whose roll it is


class RollImport:
    """Imports rolls; persons who are new are at home in `home_cell`."""

    def __init__(
        self, rolls: Mapping[str, PostgresRolls], hashes: LookupHashes, survey_id: str, home_cell: str, actor: str
    ) -> None:
        self._rolls = rolls
        self._hashes = hashes
        self._survey_id = survey_id
        self._home_cell = home_cell
        self._actor = actor

    async def run(self, source: Path, report: Path) -> Counter[RollOutcome]:
        """Import what the report does not have yet; return how many rows came to what, those of before included.

        Raises:
            OtherReportError: the report is of another file, survey or home cell.
            ValueError: the file is no such table.
            DomainError: a cell or a key cannot be reached; run it again to go on.
        """
        title = f"# survey={self._survey_id} home={self._home_cell} sha256={_digest(source)}"
        counted = _resume(report, title)
        with report.open("a", encoding="ascii", newline="") as written:
            rows = itertools.islice(_rows(source), counted.total(), None)
            while chunk := list(itertools.islice(rows, CHUNK)):
                outcomes = await self._import(chunk)
                _write(written, chunk, outcomes)
                counted.update(outcome for outcome, _ in outcomes)
        return counted

    async def _import(self, chunk: Sequence[Row]) -> list[Outcome]:
        voters = await self._voters([row.entry.voter_id for row in chunk if row.entry and row.entry.voter_id])
        documents = [row.entry.document for row in chunk if row.entry and row.entry.document]
        persons = await self._documents(documents)
        told: list[Outcome] = []
        seen: set[str | Document] = set()
        for row in chunk:
            if row.entry is None:
                told.append((RollOutcome.MALFORMED, ""))
                continue
            named: str | Document = row.entry.document or row.entry.voter_id
            outcome, cell = persons[named] if isinstance(named, Document) else voters[named]
            if outcome is RollOutcome.ENROLLED and named in seen:
                outcome = RollOutcome.ALREADY_ENROLLED
            seen.add(named)
            told.append((outcome, cell))
        return told

    async def _voters(self, voter_ids: Sequence[str]) -> dict[str, Outcome]:
        by_cell: dict[str, list[str]] = defaultdict(list)
        for voter_id in voter_ids:
            by_cell[cell_of_voter(voter_id) or ""].append(voter_id)
        found: dict[str, Outcome] = {}
        for cell, ids in by_cell.items():
            if cell not in self._rolls:
                found |= dict.fromkeys(ids, (RollOutcome.UNKNOWN_CELL, cell))
                continue
            outcomes = await self._rolls[cell].enrol_voters(self._survey_id, ids, self._actor)
            found |= {voter_id: (outcome, cell) for voter_id, outcome in outcomes.items()}
        return found

    async def _documents(self, documents: Sequence[Document]) -> dict[Document, Outcome]:
        hashes = {document: await self._hashes.document(document) for document in documents}
        persons, contradicted = await self._named(hashes)
        by_cell: dict[str, list[str]] = defaultdict(list)
        for document, person in persons.items():
            if document not in contradicted:
                by_cell[person.home_cell].append(person.person_id)
        enrolled: set[str] = set()
        for cell, ids in by_cell.items():
            if cell in self._rolls:
                enrolled |= await self._rolls[cell].enrol_persons(self._survey_id, ids, self._actor)
        found: dict[Document, Outcome] = {}
        for document, person in persons.items():
            outcome = RollOutcome.ENROLLED if person.person_id in enrolled else RollOutcome.ALREADY_ENROLLED
            if person.home_cell not in self._rolls:
                outcome = RollOutcome.UNKNOWN_CELL
            found[document] = (RollOutcome.CONTRADICTED if document in contradicted else outcome, person.home_cell)
        return found

    async def _named(
        self, hashes: Mapping[Document, Sequence[KeyedHash]]
    ) -> tuple[dict[Document, NamedPerson], set[Document]]:
        """Return whom each document names under every version, oldest first, and which name more than one."""
        persons: dict[Document, NamedPerson] = {}
        contradicted: set[Document] = set()
        for version in range(max((len(of) for of in hashes.values()), default=0)):
            asked: dict[str, list[tuple[Document, KeyedHash]]] = defaultdict(list)
            for document, of in hashes.items():
                if version < len(of):
                    asked[claiming_cell(of[version].digest, tuple(self._rolls))].append((document, of[version]))
            for cell, pairs in asked.items():
                wanted = [
                    (value, persons.get(document) or NamedPerson(new_person_id(), self._home_cell))
                    for document, value in pairs
                ]
                named = await self._rolls[cell].name_persons(wanted)
                for document, value in pairs:
                    person = named[value.key_id, value.digest]
                    if persons.setdefault(document, person) != person:
                        contradicted.add(document)
        return persons, contradicted


def _rows(source: Path) -> Iterator[Row]:
    with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        table = csv.DictReader(file)
        check_columns(table.fieldnames or ())
        line = table.line_num
        try:
            for number, row in enumerate(table, start=1):
                line = table.line_num
                yield Row(number, line, entry_of(row))
        except csv.Error as error:  # a quote that nothing closes: what follows would be read as one field
            raise ValueError(f"what follows line {line} is no row: {error}") from None


def _digest(source: Path) -> str:
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resume(report: Path, title: str) -> Counter[RollOutcome]:
    """Return what a report has, after taking a torn last line off it; begin it where there is none."""
    counted: Counter[RollOutcome] = Counter()
    whole = 0
    if report.exists():
        with report.open("rb") as file:
            for place, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                if place == 0 and line.decode("ascii", errors="replace").rstrip("\n") != title:
                    raise OtherReportError(f"{report} is of another import")
                if place > 1:
                    counted[RollOutcome(line.split(b",")[2].decode("ascii"))] += 1
                whole += len(line)
        os.truncate(report, whole)
    if whole <= len(title) + 1:
        report.write_text(f"{title}\n{_REPORT_COLUMNS}\n", encoding="ascii")
    return counted


def _write(report: IO[str], rows: Sequence[Row], outcomes: Sequence[Outcome]) -> None:
    report.writelines(
        f"{row.number},{row.line},{outcome},{cell}\n" for row, (outcome, cell) in zip(rows, outcomes, strict=True)
    )
    report.flush()
    os.fsync(report.fileno())
