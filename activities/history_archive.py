"""Copies histories out of the server into files that nobody changes, and notes which is where."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from temporalio import activity

from activities.failures import to_application_error
from activities.known_cells import known
from domain.archive_ports import ArchiveCell, ArchiveCells, ArchiveWatch, ClosedHistories
from domain.archive_retention import retention_at
from domain.audit_ports import LockedObjects
from domain.contracts.archive import (
    ArchiveMark,
    ArchivePlan,
    ClosedExecution,
    HistoryPack,
    LeftOut,
    NotedPack,
    PlanArchiveInput,
    WrittenPack,
)
from domain.contracts.exports import StoredObject
from domain.errors import DomainError, ErrorCode
from domain.history_packs import (
    GONE,
    READABLE,
    NotAPackError,
    PackedHistory,
    pack,
    pack_name,
    packed,
    packs_of,
    unpack,
)
from domain.pieces import joined, one_piece

SETTLE: Final = timedelta(minutes=2)  # what closed later may not be listed yet
OVERLAP: Final = timedelta(minutes=10)  # looked at again, for what was listed later than it should have been
SLICE_MOST: Final = 1024  # executions in one plan, which takes some 200 KB of its process's own history
PACKS_MOST: Final = 4  # files that are written at once, each in memory as a whole
_FIRST: Final = timedelta(minutes=1)
_SHORTEST: Final = timedelta(milliseconds=100)
_READ_AT_ONCE: Final = 16
_LEAST_AGE: Final = timedelta(days=1)  # further back than the retention: the server takes its time to forget


class HistoryArchiveActivities:
    """Archives the histories of cells; holds the ports so that a test can pass its own."""

    def __init__(
        self,
        cells: ArchiveCells,
        objects: LockedObjects,
        watch: ArchiveWatch,
        *,
        settle: timedelta = SETTLE,
        slice_most: int = SLICE_MOST,
    ) -> None:
        """`cells` may grow while it serves: one that was away at the start is there later."""
        self._cells = cells
        self._objects = objects
        self._watch = watch
        self._settle = settle
        self._slice_most = slice_most

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.plan_archive, self.write_history_pack, self.note_history_pack, self.mark_archive]

    @activity.defn(name="plan_archive")
    async def plan_archive(self, request: PlanArchiveInput) -> ArchivePlan:
        """Return what closed next and is not archived, by files. Safe to repeat.

        It changes nothing, but for one case: where the archive is late, the server is told to keep histories longer.
        Visibility lists in no order that can be asked for, so a stretch of time is looked for in which few closed.

        Raises:
            ApplicationError: `workflows_unavailable`, `audit_log_unavailable` (retried).
        """
        with self._guarded(request.cell):
            cell, now = self._cell(request.cell), datetime.now(UTC)
            counts, retention = await cell.notes.counts(), await cell.closed.retention()
            self._watch.looked(request.cell, counts.complete_until, retention)
            if counts.complete_until is not None:
                await self._keep_until_archived(request.cell, cell.closed, now - counts.complete_until, retention)
            after = request.after
            if after is None and counts.complete_until is not None:
                after = counts.complete_until - OVERLAP
            last = now - self._settle
            after = now - retention - _LEAST_AGE if after is None else min(after, last)
            until = await self._few(cell, after, last)
            found = sorted(
                [execution async for execution in cell.closed.closed(after, until)],
                key=lambda execution: (execution.closed_at, execution.workflow_id, execution.run_id),
            )
            activity.heartbeat(len(found))
            missing = await cell.notes.missing(found)
        packs = tuple(packs_of(request.cell, missing[: self._slice_most]))
        return ArchivePlan(
            cell=request.cell,
            until=until,
            packs=packs[:PACKS_MOST],
            is_complete=len(missing) <= self._slice_most and len(packs) <= PACKS_MOST,
            is_last=until == last,
        )

    async def _keep_until_archived(
        self, cell: str, closed: ClosedHistories, lag: timedelta, retention: timedelta
    ) -> None:
        wanted = retention_at(lag, retention)
        if wanted > retention:
            done = await closed.keep_for(wanted)
            self._watch.lengthened(cell, wanted, done=done)

    async def _few(self, cell: ArchiveCell, after: datetime, last: datetime) -> datetime:
        """Return until when only few closed; it is found from below, since counting many takes the server long."""
        width = _FIRST
        while after + width < last and await cell.closed.count(after, after + 2 * width) <= self._slice_most:
            width *= 2
            activity.heartbeat()
        until = min(after + width, last)
        while until - after > _SHORTEST and await cell.closed.count(after, until) > self._slice_most:
            until = after + (until - after) / 2
            activity.heartbeat()
        return until

    @activity.defn(name="write_history_pack")
    async def write_history_pack(self, request: HistoryPack) -> WrittenPack:
        """Write a file of histories as the server has them. Heartbeats; safe to repeat: the first file stays.

        No payload leaves that can be read: an execution that has one is left out. So is one that the server forgot.

        Raises:
            ApplicationError: `workflows_unavailable`, `objects_unavailable` (retried); `archive_contradicted` where
                another history has been written under the same name.
        """
        with self._guarded(request.cell):
            closed, at_once = self._cell(request.cell).closed, asyncio.Semaphore(_READ_AT_ONCE)

            async def read(execution: ClosedExecution) -> PackedHistory | LeftOut:
                async with at_once:
                    history = await closed.read(execution)
                activity.heartbeat()
                if history is None:
                    return LeftOut(execution=execution, why=GONE)
                if history.readable:
                    return LeftOut(execution=execution, why=READABLE)
                return packed(execution, history.events)

            found = await asyncio.gather(*(read(execution) for execution in request.executions))
            histories = [each for each in found if isinstance(each, PackedHistory)]
            left_out = {_run(each.execution): each for each in found if isinstance(each, LeftOut)}
            if not histories:
                return WrittenPack(cell=request.cell, left_out=tuple(left_out.values()))
            name, content = pack_name(request), pack(histories)
            stored = await self._objects.put(name, one_piece(content))
            if stored.sha256 != sha256(content).digest():  # of a try that still had what the server forgot since
                kept = await self._kept(stored, histories)
                left_out = {run: each for run, each in left_out.items() if run not in kept}
        return WrittenPack(cell=request.cell, stored=stored, left_out=tuple(left_out.values()))

    @activity.defn(name="note_history_pack")
    async def note_history_pack(self, request: WrittenPack) -> NotedPack:
        """Read a file back, and note each history of it, and what was left out, in one transaction. Safe to repeat.

        Raises:
            ApplicationError: `objects_unavailable`, `audit_log_unavailable` (retried); `archive_contradicted` where
                the file is not what was written.
        """
        with self._guarded(request.cell):
            histories = [] if request.stored is None else list((await self._kept(request.stored, ())).values())
            activity.heartbeat()
            await self._cell(request.cell).notes.note(request.stored, histories, request.left_out)
        if request.stored is not None:
            self._watch.noted(request.cell, len(histories), request.stored.size_bytes)
        for each in request.left_out:
            self._watch.left_out(request.cell, each.execution.workflow_id, each.execution.run_id, each.why)
        return NotedPack(cell=request.cell, archived=len(histories), left_out=len(request.left_out))

    @activity.defn(name="mark_archive")
    async def mark_archive(self, request: ArchiveMark) -> None:
        """Note until when the archive is complete. Safe to repeat: it never goes back.

        Raises:
            ApplicationError: `audit_log_unavailable` (retried).
        """
        with self._guarded(request.cell):
            await self._cell(request.cell).notes.mark(request.complete_until)

    async def _kept(
        self, stored: StoredObject, expected: Sequence[PackedHistory]
    ) -> Mapping[tuple[str, str], PackedHistory]:
        """Return what a file has by run, once it is what was written and has every expected history as it is."""
        content = await joined(self._objects.read(stored.name))
        if sha256(content).digest() != stored.sha256:
            raise _contradicted(stored.name, "is not what was written")
        try:
            kept = {history.run: history for history in unpack(content)}
        except NotAPackError as error:
            raise _contradicted(stored.name, str(error)) from error
        for history in expected:
            if history.run not in kept or kept[history.run].digest != history.digest:
                raise _contradicted(stored.name, f"has not {history.workflow_id} {history.run_id} as it is")
        return kept

    def _cell(self, name: str) -> ArchiveCell:
        return known(self._cells, name, ErrorCode.WORKFLOWS_UNAVAILABLE)

    @contextmanager
    def _guarded(self, cell: str) -> Iterator[None]:
        try:
            yield
        except DomainError as error:
            if error.code is ErrorCode.ARCHIVE_CONTRADICTED:
                self._watch.contradicted(cell, error.detail)
            raise to_application_error(error) from error


def _contradicted(name: str, what: str) -> DomainError:
    return DomainError(ErrorCode.ARCHIVE_CONTRADICTED, f"{name}: {what}")


def _run(execution: ClosedExecution) -> tuple[str, str]:
    return execution.workflow_id, execution.run_id
