"""`comitia archive`: histories that outlive the server's retention, for the person on call and for compliance."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from comitia.stack_settings import STACK_FOLDER, DataFolder, settings_of
from domain.archive_ports import PLATFORM_ARCHIVE, ArchiveCounts, ArchiveNotes, ClosedHistories
from domain.contracts.archive import ClosedExecution
from domain.errors import DomainError, ErrorCode
from integrations.addresses import DatabaseAddress, TemporalAddress
from integrations.keys.opening import open_keys
from integrations.objects.log_objects import open_log_objects
from integrations.platform import IN_FLIGHT
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.closed_histories import TemporalClosedHistories, never_archived
from integrations.temporal.codec import EncryptionCodec

app = typer.Typer(no_args_is_help=True, help="Histories that outlive the server's retention.")

Cells = Annotated[list[str] | None, typer.Option("--cell", help="Only these cells, or `platform`. Repeatable.")]
_FAILURES = (DomainError, LookupError, OSError, RuntimeError, ValidationError)
_WAITING = "waiting"
_ASKED_AT_ONCE = 1000
_FORGOTTEN_WITHIN = timedelta(days=1)  # after the retention


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """How the archive of a cell, or of the platform, stands.

    `waiting` executions have closed and are not in it, the oldest since then.
    """

    cell: str
    counts: ArchiveCounts
    waiting: int
    oldest: datetime | None
    retention: timedelta
    now: datetime

    @property
    def lag(self) -> timedelta:
        """For how long the oldest execution that is not archived has been closed."""
        return timedelta(0) if self.oldest is None else self.now - self.oldest

    @property
    def is_good(self) -> bool:
        """Tell whether nothing was left out, and nothing is about to be forgotten before it is archived."""
        return self.counts.left_out == 0 and self.lag < self.retention / 2

    def __str__(self) -> str:
        oldest = f", the oldest for {_hours(self.lag)}" if self.waiting else ""
        until = self.counts.complete_until
        complete = f"complete until {until.isoformat(timespec='seconds')}" if until else "never complete yet"
        return (
            f"{self.cell}: {self.counts.archived:,} archived, {self.counts.left_out:,} left out, "
            f"{self.waiting:,} closed and not archived{oldest}; {complete}; "
            f"the server keeps histories for {_hours(self.retention)}"
        )


@app.command()
def status(*, cell: Cells = None, data: DataFolder = STACK_FOLDER) -> None:
    """Say what has closed and is not archived; exit 1 where something was left out, or is half way to be forgotten."""
    console = Console(soft_wrap=True)
    try:
        found = asyncio.run(_statuses(settings_of(data, AUDIT), cell or ()))
    except _FAILURES as error:
        console.print(f"no status: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    for each in found:
        console.print(str(each), markup=False, highlight=False)
    raise typer.Exit(0 if all(each.is_good for each in found) else 1)


@app.command()
def missing(*, cell: Cells = None, data: DataFolder = STACK_FOLDER) -> None:
    """Name each execution that has closed and is not archived, one JSON object a line.

    `why` is `waiting` of what will be, and otherwise why it was left out for good.
    """
    try:
        asyncio.run(_name_missing(settings_of(data, AUDIT), cell or ()))
    except _FAILURES as error:
        Console(soft_wrap=True, stderr=True).print(f"not all are named: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None


@app.command()
def verify(*, cell: Cells = None, data: DataFolder = STACK_FOLDER) -> None:
    """Read every file of the archive and compare it with what was written; exit 1 and name those that differ."""
    console = Console(soft_wrap=True)
    try:
        checked, differ = asyncio.run(_verify(settings_of(data, AUDIT), cell or ()))
    except _FAILURES as error:
        console.print(f"not verified: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    for line in differ:
        console.print(line, markup=False, highlight=False)
    console.print(f"{checked:,} files, {len(differ):,} of which differ", highlight=False)
    raise typer.Exit(1 if differ else 0)


def archive_names(settings: Settings) -> tuple[str, ...]:
    """Return which archives there are: of every cell, and of the platform where the settings have it."""
    has_platform = settings.catalogue is not None and settings.platform_temporal is not None
    return (*settings.cells, *((PLATFORM_ARCHIVE,) if has_platform else ()))


def archive_addresses(settings: Settings, name: str) -> tuple[DatabaseAddress, TemporalAddress]:
    """Return the database that an archive is noted in, and the namespace that it is of.

    Raises:
        LookupError: there is no such archive.
    """
    if name == PLATFORM_ARCHIVE and settings.catalogue is not None and settings.platform_temporal is not None:
        return settings.catalogue, settings.platform_temporal
    if name in settings.cells:
        return settings.cells[name].database, settings.cells[name].temporal
    raise LookupError(f"no archive of {name}; there are those of {', '.join(archive_names(settings)) or 'no cell'}")


async def status_of(cell: str, closed: ClosedHistories, archive: ArchiveNotes) -> ArchiveStatus:
    """Compare what the server lists with what is noted: every closed execution, whatever the archive says of itself.

    Raises:
        DomainError: `workflows_unavailable`, `audit_log_unavailable`.
    """
    now, waiting = datetime.now(UTC), 0
    oldest = now
    async for each in waiting_for(closed, archive, now):
        waiting += 1
        oldest = min(oldest, each.closed_at)
    counts, retention = await archive.counts(), await closed.retention()
    return ArchiveStatus(cell, counts, waiting, oldest if waiting else None, retention, now)


async def waiting_for(
    closed: ClosedHistories, archive: ArchiveNotes, until: datetime
) -> AsyncIterator[ClosedExecution]:
    """Return every execution that had closed by an instant, that the server still lists, and of which nothing is noted.

    Raises:
        DomainError: `workflows_unavailable`, `audit_log_unavailable`.
    """
    since = until - await closed.retention() - _FORGOTTEN_WITHIN
    async for some in _by_many(closed.closed(since, until)):
        for each in await archive.missing(some):
            yield each


async def _statuses(settings: Settings, cells: Sequence[str]) -> list[ArchiveStatus]:
    return [await status_of(*each) async for each in _archives(settings, cells)]


async def _name_missing(settings: Settings, cells: Sequence[str]) -> None:
    async for cell, closed, archive in _archives(settings, cells):
        async for each in archive.left_out():
            _name(cell, each.execution, each.why)
        async for execution in waiting_for(closed, archive, datetime.now(UTC)):
            _name(cell, execution, _WAITING)


def _name(cell: str, execution: ClosedExecution, why: str) -> None:
    named = {
        "cell": cell,
        "workflowId": execution.workflow_id,
        "runId": execution.run_id,
        "type": execution.workflow_type,
        "closedAt": execution.closed_at.isoformat(),
        "why": why,
    }
    typer.echo(json.dumps(named))


async def _archives(
    settings: Settings, cells: Sequence[str]
) -> AsyncIterator[tuple[str, ClosedHistories, PostgresArchive]]:
    codec = EncryptionCodec(open_keys(settings), IN_FLIGHT)  # opens nothing
    for cell in _chosen(settings, cells):
        async with _archive(settings, cell) as archive:
            temporal = await connect(archive_addresses(settings, cell)[1], codec)
            yield cell, TemporalClosedHistories(temporal, never=never_archived(cell)), archive


async def _verify(settings: Settings, cells: Sequence[str]) -> tuple[int, list[str]]:
    objects, checked, differ = open_log_objects(settings), 0, list[str]()
    for cell in _chosen(settings, cells):
        async with _archive(settings, cell) as archive:
            async for stored in archive.objects():
                checked += 1
                digest = sha256()
                try:
                    async for piece in objects.read(stored.name):
                        digest.update(piece)
                except DomainError as error:
                    if error.code is not ErrorCode.OBJECTS_UNAVAILABLE:
                        raise
                    differ.append(f"{stored.name}: cannot be read ({error.detail})")
                    continue
                if digest.digest() != stored.sha256:
                    differ.append(f"{stored.name}: is not what was written")
    return checked, differ


@asynccontextmanager
async def _archive(settings: Settings, cell: str) -> AsyncIterator[PostgresArchive]:
    async with AsyncExitStack() as lifetime:
        pool = await open_pool(archive_addresses(settings, cell)[0], settings, AUDIT, size=1)
        lifetime.push_async_callback(pool.close)
        yield PostgresArchive(pool)


async def _by_many(executions: AsyncIterator[ClosedExecution]) -> AsyncIterator[list[ClosedExecution]]:
    some: list[ClosedExecution] = []
    async for each in executions:
        some.append(each)
        if len(some) == _ASKED_AT_ONCE:
            yield some
            some = []
    yield some


def _chosen(settings: Settings, cells: Sequence[str]) -> Sequence[str]:
    known = archive_names(settings)
    if unknown := set(cells) - set(known):
        raise LookupError(
            f"no archive of {', '.join(sorted(unknown))}; there are those of {', '.join(known) or 'none'}"
        )
    return cells or known


def _hours(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds} s"  # noqa: PLR2004 - an hour
