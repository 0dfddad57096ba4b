"""Evidence is handed out after its entry alone."""

from typing import Any

import pytest

from api.compliance.evidence import Asked, EvidenceCell, EvidenceDesk
from domain.audit import AuditEntry
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import EvidenceReason, RecordedRun
from domain.ids import new_attempt_id
from tests.api.compliance.officer import CELL


class NoEntries:
    """A directory that writes nothing."""

    async def note(self, key: str, entry: AuditEntry) -> str:
        raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)

    async def outcome_of(self, key: str) -> str | None:
        raise AssertionError(key)


class OneRun:
    async def of(self, workflow_id: str) -> list[RecordedRun]:
        return [RecordedRun(workflow_id, "a run", "AssessLogin", left_out="history_gone")]

    async def decision(self, address: object) -> None:
        return None

    async def places(self, case_id: str) -> list[int | None]:
        return []


class AnySigner:
    async def sign(self, message: bytes) -> tuple[str, bytes]:
        return "evidence-bundle/2026-01-01/1", bytes(64)


async def test_without_its_entry_no_bundle_is_handed_out() -> None:
    cell: Any = EvidenceCell(records=OneRun(), runs=OneRun(), votes=None, log=None, entries=NoEntries())  # type: ignore[arg-type]
    desk = EvidenceDesk((CELL,), lambda _: cell, AnySigner())
    with pytest.raises(DomainError) as raised:
        await desk.export(Asked(new_attempt_id(CELL), EvidenceReason.AUDIT, "staff:u_tester", key="k"))
    assert raised.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
