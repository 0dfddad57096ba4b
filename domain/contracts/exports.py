"""Exports of results: what is asked for, what came of it."""

from datetime import datetime
from enum import StrEnum

from domain.contracts.base import Contract
from domain.contracts.surveys import Survey
from domain.contracts.voting import RegionCounts


class ExportFormat(StrEnum):
    """How the file is written."""

    CSV = "csv"
    JSON = "json"


class ExportRequest(Contract):
    """A file of one survey's totals, by whom and how; `region` and `option` narrow it to one of them."""

    survey_id: str
    export_id: str
    actor: str
    format: ExportFormat = ExportFormat.CSV
    region: str | None = None
    option: str | None = None


class ExportSnapshot(Contract):
    """What a file is written from, kept beside it, so that every try writes the same one."""

    survey: Survey
    regions: tuple[RegionCounts, ...]
    as_of: datetime | None = None
    missing_cells: tuple[str, ...] = ()


class StoredObject(Contract):
    """A file in the object store; `sha256` is 32 bytes."""

    name: str
    size_bytes: int
    sha256: bytes


class ExportFile(Contract):
    """The file of an export and the instant that its totals speak for."""

    survey_id: str
    export_id: str
    stored: StoredObject
    as_of: datetime | None = None
    missing_cells: tuple[str, ...] = ()


class CancelledExport(Contract):
    """An export that somebody cancelled before its file was written; `actor` and `role` as entries name them."""

    survey_id: str
    export_id: str
    actor: str
    role: str


class ExportState(Contract):
    """An export as the catalogue has it; without `file` it is still being written, or was cancelled."""

    request: ExportRequest
    requested_at: datetime
    file: ExportFile | None = None
    finished_at: datetime | None = None
    cancelled_at: datetime | None = None
