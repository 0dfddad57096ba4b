"""The catalogue's list of exports in PostgreSQL."""

from typing import Final

import asyncpg

from domain.audit import AuditEntry, AuditKind
from domain.contracts.exports import (
    CancelledExport,
    ExportFile,
    ExportFormat,
    ExportRequest,
    ExportState,
    StoredObject,
)
from domain.errors import DomainError, ErrorCode
from integrations.postgres import catalogue_statements as sql
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as
from integrations.postgres.staff_actions import note_action

_WRITING: Final = "process:export-results"


class PostgresExports:
    """Implements `ExportCatalogue`; made for the role `comitia_surveys`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def register(self, request: ExportRequest) -> None:
        """Note an export and its staff action; safe to repeat. Raises `survey_not_found`."""
        row = (
            request.export_id,
            request.survey_id,
            request.actor,
            request.format.value,
            request.region,
            request.option,
        )
        try:
            with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
                async with self._pool.acquire() as connection, connection.transaction():
                    if await connection.fetchval(sql.REGISTER_EXPORT, *row) is not None:
                        facts = {"export": request.export_id, "format": request.format.value}
                        await note_action(connection, request.actor, "export", request.survey_id, facts=facts)
        except asyncpg.ForeignKeyViolationError as error:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND) from error

    async def complete(self, file: ExportFile) -> None:
        """Note the file of an export, and its audit entry; safe to repeat."""
        stored = file.stored
        row = (file.export_id, file.survey_id, stored.name, stored.sha256, stored.size_bytes, file.as_of)
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                if await connection.fetchval(sql.COMPLETE_EXPORT, *row, list(file.missing_cells)) is not None:
                    await append(connection, _of_file(AuditKind.EXPORT_COMPLETED, file, _WRITING))

    async def fetch(self, file: ExportFile, actor: str, role: str) -> None:
        """Write the entry of a file that is given out; repeated, it is another one."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await append(connection, _of_file(AuditKind.EXPORT_FETCHED, file, actor, role))

    async def cancel(self, cancelled: CancelledExport) -> None:
        """Note that an export gets no file, and its audit entry; safe to repeat. One that has its file keeps it."""
        entry = AuditEntry(
            AuditKind.EXPORT_CANCELLED,
            cancelled.actor,
            cancelled.survey_id,
            role=cancelled.role,
            facts={"export": cancelled.export_id},
        )
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                if await connection.fetchval(sql.CANCEL_EXPORT, cancelled.export_id, cancelled.survey_id) is not None:
                    await append(connection, entry)

    async def find(self, survey_id: str, export_id: str) -> ExportState | None:
        """Return an export of a survey, or None."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            row = await self._pool.fetchrow(sql.FIND_EXPORT, export_id, survey_id)
        return None if row is None else _state(row)

    async def newest(self, limit: int) -> list[ExportState]:
        """Return exports of all surveys, the newest first."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            return [_state(row) for row in await self._pool.fetch(sql.NEWEST_EXPORTS, limit)]


def _of_file(kind: AuditKind, file: ExportFile, actor: str, role: str = "") -> AuditEntry:
    facts = {"export": file.export_id}
    return AuditEntry(kind, actor, file.survey_id, role=role, after=file.stored.sha256, facts=facts)


def _state(row: asyncpg.Record) -> ExportState:
    request = ExportRequest(
        survey_id=row["survey_id"],
        export_id=row["export_id"],
        actor=row["requested_by"],
        format=ExportFormat(row["format"]),
        region=row["region"],
        option=row["option_id"],
    )
    return ExportState(
        request=request,
        requested_at=row["requested_at"],
        finished_at=row["finished_at"],
        cancelled_at=row["cancelled_at"],
        file=_file(request, row) if row["finished_at"] is not None else None,
    )


def _file(request: ExportRequest, row: asyncpg.Record) -> ExportFile:
    return ExportFile(
        survey_id=request.survey_id,
        export_id=request.export_id,
        stored=StoredObject(name=row["object_name"], size_bytes=row["size_bytes"], sha256=row["sha256"]),
        as_of=row["as_of"],
        missing_cells=tuple(row["missing_cells"]),
    )
