"""No file of an export is given out before whoever has it is written down."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from api.http.access import Principal
from api.surveys.exporting import ExportDesk, Exports
from domain.contracts.exports import ExportFile, ExportRequest, ExportState, StoredObject
from domain.errors import DomainError, ErrorCode
from domain.ids import new_export_id, new_survey_id
from domain.tokens import Role

UNUSED: Any = None
STAFF = Principal("staff:u_x", frozenset({Role.ADMIN}))


class Catalogue:
    """An export with its file, whose entries are written or not."""

    def __init__(self, *, is_down: bool = False) -> None:
        self.fetched: list[tuple[str, str, str]] = []
        self._is_down = is_down

    async def find(self, survey_id: str, export_id: str) -> ExportState:
        request = ExportRequest(survey_id=survey_id, export_id=export_id, actor="staff:u_y")
        stored = StoredObject(name="exports/x.csv", size_bytes=1, sha256=bytes(32))
        file = ExportFile(survey_id=survey_id, export_id=export_id, stored=stored)
        return ExportState(request=request, requested_at=datetime(2027, 1, 1, tzinfo=UTC), file=file)

    async def fetch(self, file: ExportFile, actor: str, role: str) -> None:
        if self._is_down:
            raise DomainError(ErrorCode.CATALOGUE_UNAVAILABLE)
        self.fetched.append((file.export_id, actor, role))


class Objects:
    """One file, there or not."""

    def __init__(self, *, is_down: bool = False) -> None:
        self._is_down = is_down

    async def read(self, name: str) -> AsyncIterator[bytes]:
        if self._is_down:
            raise DomainError(ErrorCode.OBJECTS_UNAVAILABLE, name)
        yield b"x"


def desk(catalogue: Catalogue, objects: Objects) -> ExportDesk:
    return ExportDesk(UNUSED, Exports(cast("Any", catalogue), UNUSED, cast("Any", objects)))


async def test_no_file_is_given_out_whose_entry_is_not_written() -> None:
    with pytest.raises(DomainError) as refused:
        await desk(Catalogue(is_down=True), Objects()).file(new_survey_id(), new_export_id(), STAFF)
    assert refused.value.code is ErrorCode.CATALOGUE_UNAVAILABLE


async def test_a_file_that_cannot_be_opened_is_nobodys() -> None:
    catalogue = Catalogue()
    with pytest.raises(DomainError) as refused:
        await desk(catalogue, Objects(is_down=True)).file(new_survey_id(), new_export_id(), STAFF)
    assert (refused.value.code, catalogue.fetched) == (ErrorCode.OBJECTS_UNAVAILABLE, [])


async def test_each_file_that_is_given_out_is_written_down() -> None:
    catalogue, export_id = Catalogue(), new_export_id()
    for _ in range(2):
        await desk(catalogue, Objects()).file(new_survey_id(), export_id, STAFF)
    assert catalogue.fetched == [(export_id, "staff:u_x", "admin")] * 2
