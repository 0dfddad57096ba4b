"""Histories of one cell, or of the platform, out of its archive, read as those that the server still has."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol

import structlog
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec

from domain.archive_ports import HistoryPlace
from domain.audit_ports import LockedObjects
from domain.errors import DomainError, ErrorCode
from domain.pieces import joined
from domain.replay import Execution
from integrations.temporal.payloads import open_what_is_left

_EVENT_BYTES: Final = 500  # about: how many events a history has is not noted
_FILES_KEPT: Final = 4  # in memory: whoever reads a period reads file by file

log = structlog.get_logger(__name__)


class ArchiveIndex(Protocol):
    """Where histories are. All calls raise DomainError `audit_log_unavailable`."""

    async def place(self, workflow_id: str, run_id: str = "") -> HistoryPlace | None:
        """Return where a run's history is, that of the newest one without `run_id`; None where nothing is noted."""
        ...

    def started(self, since: datetime, until: datetime, workflow_type: str = "") -> AsyncIterator[HistoryPlace]:
        """Return those that started at or after the one instant and before the other, file by file."""
        ...


class ArchivedHistories:
    """Reads as `Histories` does; whatever it gives out is what was archived, or it gives out nothing."""

    def __init__(self, index: ArchiveIndex, objects: LockedObjects, codec: PayloadCodec) -> None:
        self._index = index
        self._objects = objects
        self._codec = codec
        self._files: OrderedDict[str, asyncio.Future[bytes]] = OrderedDict()

    async def read(self, workflow_id: str, run_id: str = "") -> WorkflowHistory | None:
        """Return the history of a run, of the newest one without `run_id`; None where it is not archived.

        Raises:
            DomainError: `audit_log_unavailable`, `objects_unavailable`; `key_destroyed`, `key_unavailable`;
                `archive_contradicted` where it is not what was archived.
        """
        place = await self._index.place(workflow_id, run_id)
        if place is None or place.left_out:
            return None
        history, is_opened = await self.at(place)
        if not is_opened:
            raise DomainError(ErrorCode.KEY_DESTROYED)
        return history

    async def at(self, place: HistoryPlace) -> tuple[WorkflowHistory, bool]:
        """Return a history, and whether its payloads could be opened: with their key they are gone, and nothing else.

        Raises:
            DomainError: as `read`, but for `key_destroyed`.
        """
        history = History.FromString(await self.sealed(place))
        return WorkflowHistory(place.workflow_id, history.events), await open_what_is_left(history.events, self._codec)

    async def started(self, since: datetime, until: datetime, workflow_type: str = "") -> AsyncIterator[Execution]:
        """Return the executions that started then, also those that were left out of the archive."""
        async for place in self._index.started(since, until, workflow_type):
            events = place.size_bytes // _EVENT_BYTES
            yield Execution(place.workflow_id, place.run_id, place.workflow_type, place.started_at, events)

    async def sealed(self, place: HistoryPlace) -> bytes:
        """Return a history as it was archived, its payloads as they are kept. Raises DomainError as `read`."""
        content = await self._file(place.name)
        events = content[place.first_byte : place.first_byte + place.size_bytes]
        if sha256(events).digest() != place.digest:
            log.error("archive_contradicted", object=place.name, workflow=place.workflow_id, run=place.run_id)
            raise DomainError(ErrorCode.ARCHIVE_CONTRADICTED, place.name)
        return events

    async def _file(self, name: str) -> bytes:
        reading = self._files.get(name)
        if reading is None:
            reading = self._files[name] = asyncio.ensure_future(self._read(name))
            if len(self._files) > _FILES_KEPT:
                self._files.popitem(last=False)
        self._files.move_to_end(name)
        try:
            return await asyncio.shield(reading)
        except DomainError:
            self._files.pop(name, None)
            raise

    async def _read(self, name: str) -> bytes:
        return await joined(self._objects.read(name))
