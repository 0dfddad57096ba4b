"""Evidence is handed out after its entry alone."""

import json
from dataclasses import replace
from typing import Any

import pytest

from api.compliance.evidence import Asked, EvidenceCell, EvidenceDesk
from domain.audit import AuditEntry
from domain.cases import CaseAddress
from domain.checkpoints import Checkpoint
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import MANIFEST, EvidenceReason, Json, RecordedRun, SealedRecord
from domain.ids import new_attempt_id
from domain.log_proofs import ProvedEntry
from domain.stored_zip import read_zip
from tests.api.compliance.officer import CELL
from tests.bundle_world import decided, ended, proved, record


class NoEntries:
    """A directory that writes nothing."""

    async def note(self, key: str, entry: AuditEntry) -> str:
        raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)

    async def outcome_of(self, key: str) -> str | None:
        raise AssertionError(key)


class OneRun:
    async def of(self, workflow_id: str) -> list[RecordedRun]:
        return [RecordedRun(workflow_id, "a run", "AssessLogin", left_out="history_gone")]

    async def sealed(self, address: CaseAddress) -> SealedRecord:
        return SealedRecord(None, [])


class AnySigner:
    async def sign(self, message: bytes) -> tuple[str, bytes]:
        return "evidence-bundle/2026-01-01/1", bytes(64)


class Places(OneRun):
    """A case whose entries are known in no order."""

    def __init__(self, decision: Json | None = None) -> None:
        self._decision = decision

    async def sealed(self, address: CaseAddress) -> SealedRecord:
        return SealedRecord(self._decision, [4, 1])


class Log:
    """Has the entries of a login, the first at place 1 and the second at 4."""

    def __init__(self, case_id: str) -> None:
        entries = proved(replace(decided(), subject=case_id), ended(case_id))
        self._proved = {each.proof.index: each for each in entries}

    async def first_over(self, index: int) -> Checkpoint | None:
        return self._proved[index].head

    async def prove(self, index: int, head: Checkpoint) -> ProvedEntry:
        assert head == self._proved[index].head
        return self._proved[index]


class Written(NoEntries):
    async def note(self, key: str, entry: AuditEntry) -> str:
        return entry.outcome


async def test_entries_stand_in_the_order_of_the_log_however_they_were_found() -> None:
    case_id = new_attempt_id(CELL)
    cell: Any = EvidenceCell(records=Places(), runs=OneRun(), votes=None, log=Log(case_id), entries=Written())  # type: ignore[arg-type]
    desk = EvidenceDesk((CELL,), lambda _: cell, AnySigner())
    content = await desk.export(Asked(case_id, EvidenceReason.AUDIT, "staff:u_tester", key="k"))
    kinds = [entry["kind"] for entry in json.loads(dict(read_zip(content))[MANIFEST])["entries"]]
    assert kinds == ["login.decided", "login.ended"]


async def test_a_record_that_is_not_what_its_entries_say_is_not_handed_out() -> None:
    case_id = new_attempt_id(CELL)

    async def exported(decision: Json) -> bytes:
        parts: Any = (Places(decision), OneRun(), None, Log(case_id), Written())
        desk = EvidenceDesk((CELL,), lambda _: EvidenceCell(*parts), AnySigner())
        return await desk.export(Asked(case_id, EvidenceReason.AUDIT, "staff:u_tester", key="k"))

    assert await exported(record())
    for other in ({"outcome": "allowed"}, {"factor": "mail_code"}, {"method": "passkey"}):
        with pytest.raises(DomainError) as raised:
            await exported(record(**other))
        assert raised.value.code is ErrorCode.RECORD_CONTRADICTED


async def test_without_its_entry_no_bundle_is_handed_out() -> None:
    cell: Any = EvidenceCell(records=OneRun(), runs=OneRun(), votes=None, log=None, entries=NoEntries())  # type: ignore[arg-type]
    desk = EvidenceDesk((CELL,), lambda _: cell, AnySigner())
    with pytest.raises(DomainError) as raised:
        await desk.export(Asked(new_attempt_id(CELL), EvidenceReason.AUDIT, "staff:u_tester", key="k"))
    assert raised.value.code is ErrorCode.DIRECTORY_UNAVAILABLE
