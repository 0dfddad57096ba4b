"""`comitia backup` and `comitia restore`: a cell's database in its archive, and back from there."""

import asyncio
import base64
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from comitia.stack.pair_restore import Restored, Target, position, restoring
from comitia.stack.pair_state import Mode
from comitia.stack.postgres_member import PairPlace
from comitia.stack.postgres_pair import MEMBERS, READY_WITHIN_S, PostgresPair
from comitia.stack.servers import pair_folder
from comitia.stack.state import CATALOGUE, StackState, read_state
from domain.ids import BatchId
from integrations.postgres.inspection import Finding, inspecting
from integrations.postgres.migrate import Tree

_BACKUPS_KEPT = 3


class NoPairError(LookupError):
    """The folder has no pair of this name."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was restored, and every single thing that was checked."""

    backup: str
    replayed_to: int
    archived_to: str
    seconds: float
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return all(finding.passed for finding in self.findings)


def open_pair(data: Path, name: str, console: Console) -> tuple[PostgresPair, StackState]:
    """Return the pair of a cell or of the catalogue in a stack's folder.

    Raises:
        NoPairError: there is none; only `comitia up --standby` makes them.
    """
    state = read_state(data)
    if state is None or not state.topology.standby or f"postgres-{name}-{MEMBERS[0]}" not in state.ports:
        raise NoPairError(f"{data} has no standby and no archive of {name}: comitia up --standby makes them")
    first, second = (state.ports[f"postgres-{name}-{each}"] for each in MEMBERS)
    place = PairPlace(pair_folder(state.folder, state.stack_id, name), state.folder / "logs")
    return PostgresPair(name, place, (first, second), say=console.print), state


async def back_up(pair: PostgresPair) -> Path:
    """Take a base backup, from the standby where there is one, and forget all but the newest ones.

    Raises:
        StartError: it was not taken, or is damaged.
    """
    taken = await pair.archive.back_up(pair.standby if pair.state.mode is Mode.PAIR else pair.primary)
    await pair.archive.forget_before(pair.archive.backups()[-_BACKUPS_KEPT:][0])
    return taken


async def restore(pair: PostgresPair, target: Target, *, watched: bool, noted: set[BatchId] | None = None) -> Report:
    """Restore a pair and check it; it takes its place only where every check passed.

    Raises:
        RestoreError: it could not be restored; what was there is as it was.
        FailedCheckError: what was restored is not whole; what was there is as it was.
        TimeoutError: it took its place, and whoever runs the pair did not start it.
    """
    began = time.monotonic()
    async with restoring(pair, target, watched=watched) as restored:
        findings = [
            Finding("base backup", passed=True, seen=f"{restored.backup.folder.name}, verified by its manifest")
        ]
        findings += await inspect(pair.name, restored, noted)
        report = Report(
            restored.backup.folder.name,
            restored.replayed_to,
            restored.archived_to,
            time.monotonic() - began,
            findings,
        )
        if not report.passed:
            raise FailedCheckError(report)
    if watched:
        await pair.serves(READY_WITHIN_S)
    return report


class FailedCheckError(RuntimeError):
    """What was restored is not whole; it did not take its place."""

    def __init__(self, report: Report) -> None:
        super().__init__("a check failed")
        self.report = report


async def inspect(name: str, restored: Restored, noted: set[BatchId] | None) -> list[Finding]:
    """Return what was found in a restored database."""
    tree = Tree.CATALOGUE if name == CATALOGUE else Tree.CELL
    async with inspecting(restored.address, restored.administrator, name) as inspection:
        found = await inspection.structure(tree)
        if tree is Tree.CELL:
            found += await inspection.ledger()
            if noted is not None:
                found.append(await inspection.acknowledged(noted))
    return found


def read_target(text: str) -> Target:
    """Return where to stop: an instant with its offset from UTC, or a position of the log; empty is its end.

    Raises:
        ValueError: it is neither.
    """
    if not text:
        return Target()
    if "/" in text:
        position(text)
        return Target(lsn=text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text} is neither an instant as 2026-05-07T22:00:00+00:00 nor a position as 0/3000148"
        ) from error
    if at.tzinfo is None:
        raise ValueError(f"{text} does not say its offset from UTC")
    return Target(at=at)


def read_notes(file: Path) -> set[BatchId]:
    """Return the batches of the submission ids in a file, one a line: what voters were told is confirmed.

    Raises:
        ValueError: a line is no submission id.
    """
    found = set()
    for line in filter(None, (line.strip() for line in file.read_text().splitlines())):
        place = base64.urlsafe_b64decode(line)
        found.add(BatchId(place[:16], int.from_bytes(place[16:24], "big")))
    return found


def show(report: Report, console: Console) -> None:
    """Print what was checked."""
    table = Table("checked", "", "seen")
    for finding in report.findings:
        table.add_row(finding.what, "ok" if finding.passed else "WRONG", finding.seen)
    console.print(table)
    end = f"{report.replayed_to >> 32:X}/{report.replayed_to & 0xFFFFFFFF:X}"
    console.print(
        f"base backup {report.backup}; log replayed to {end}, newest piece of the archive {report.archived_to}; "
        f"{report.seconds:.1f} s"
    )


def run_backup(data: Path, name: str, console: Console) -> None:
    """Take a base backup by hand. Raises NoPairError, StartError."""
    pair, _ = open_pair(data, name, console)
    console.print(f"{asyncio.run(back_up(pair))}")


def run_restore(data: Path, name: str, target: Target, notes: Path | None, console: Console) -> None:
    """Restore by hand, in a running stack or in one that is stopped. Raises NoPairError, RestoreError."""
    pair, state = open_pair(data, name, console)
    noted = None if notes is None else read_notes(notes)
    with _stack_of(state.folder) as watched:
        report = asyncio.run(restore(pair, target, watched=watched, noted=noted))
    show(report, console)
    console.print(f"{name} serves again" if watched else "restored; comitia up --standby lets it serve")


@contextmanager
def _stack_of(folder: Path) -> Iterator[bool]:
    """Say whether a stack runs in a folder, whatever one that was killed has left there; keep another from starting."""
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield True
        else:
            yield False
