"""Evidence bundles of cases: put together, written down, and only then handed out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from activities.log_reading import LogReading
from api.named_cells import none_such
from domain.audit import AuditEntry, AuditKind
from domain.cases import CaseAddress, case_at, vote_at
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import CaseEvidence, EvidenceReason, Json, RecordedRun, SealedRecord, bundle_of
from domain.ids import derived_id
from domain.log_proofs import ProvedEntry
from domain.sealed_decisions import ContradictedError, SealedEntry, compare_with_entries
from domain.staff_entries import StaffEntries
from domain.submissions import claimed_place
from domain.tokens import Role

_SEALED_WITHIN_S = 60


class CaseRecords(Protocol):
    """What the tables have of a case. Calls raise DomainError `directory_unavailable`."""

    async def sealed(self, address: CaseAddress) -> SealedRecord:
        """Return what was decided, and where the case's entries are in the cell's log."""
        ...


class CaseRuns(Protocol):
    """The processes of a case."""

    async def of(self, workflow_id: str) -> list[RecordedRun]:
        """Return every run, of one that is open as far as it is. Raises DomainError for what keeps them from us."""
        ...


@dataclass(frozen=True, slots=True)
class VoteEvidence:
    """What is kept of one vote without its choice: the record, its voter's receipt, and the entry of its batch."""

    record: Json
    receipt: bytes
    entry: ProvedEntry


class Votes(Protocol):
    """The votes of a cell, each found by its own submission id."""

    async def of(self, submission_id: str) -> VoteEvidence | None:
        """Return what proves a vote; None where there is none of this id here, or its history is gone.

        Raises:
            DomainError: `case_stage` where it is not confirmed, `not_sealed_yet`, and what keeps its parts from us.
        """
        ...


class BundleSigner(Protocol):
    """Signs bundles."""

    async def sign(self, message: bytes) -> tuple[str, bytes]:
        """Return the key's id and its signature. Raises DomainError `key_unavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class EvidenceCell:
    """What bundles of one cell's cases are made of."""

    records: CaseRecords
    runs: CaseRuns
    votes: Votes
    log: LogReading
    entries: StaffEntries


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants a bundle and why; `key` tells a repeated request from a second one."""

    case_id: str
    reason: EvidenceReason
    actor: str
    role: str = Role.COMPLIANCE.value
    key: str = ""


class EvidenceDesk:
    """Makes the bundles of cases and of votes."""

    def __init__(
        self, cells: Sequence[str], cell_of: Callable[[str | None], EvidenceCell], signer: BundleSigner
    ) -> None:
        """`cells` are all that a vote may be in; `cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cells = cells
        self._cell_of = cell_of
        self._signer = signer

    async def export(self, asked: Asked) -> bytes:
        """Return the bundle of a case, once its audit entry, which has the bundle's digest, is committed.

        Safe to repeat under one key: one entry is written. The same state of a case gives the same bytes; where more
        has happened in an open one meanwhile, it is another request, and its key is used.

        Raises:
            DomainError: `case_not_found`, also for a vote whose history is gone; `case_stage` for a vote that is not
                confirmed; `not_sealed_yet` where an entry of it is under no tree head; `record_contradicted` where
                its record is not what its entries were written of; `idempotency_key_used`; and whatever keeps its parts
                from us.
        """
        address = case_at(asked.case_id)
        if address is None:
            cell, evidence = await self._vote(asked.case_id)
        else:
            cell = self._cell(address.cell)
            evidence = await _collected(address, cell)
        unsigned = bundle_of(evidence)
        content = unsigned.signed(*await self._signer.sign(unsigned.message))
        request = derived_id("ev", f"{asked.actor}\n{asked.case_id}\n{asked.key}")
        entry = AuditEntry(
            AuditKind.EVIDENCE_EXPORTED,
            asked.actor,
            asked.case_id,
            role=asked.role,
            reason=asked.reason.value,
            after=sha256(content).digest(),
            facts={"request": request},
        )
        await cell.entries.note(request, entry)
        return content

    async def _vote(self, submission_id: str) -> tuple[EvidenceCell, CaseEvidence]:
        """Return the evidence of a vote, out of the one cell that knows it: its id names none."""
        if claimed_place(submission_id) is None:
            raise DomainError(ErrorCode.CASE_NOT_FOUND)
        away: DomainError | None = None
        for name in self._cells:
            try:
                cell = self._cell_of(name)
                found = await cell.votes.of(submission_id)
            except DomainError as error:
                if error.code not in {ErrorCode.CELL_UNAVAILABLE, ErrorCode.WORKFLOWS_UNAVAILABLE}:
                    raise
                away = error
                continue
            if found is not None:
                address = vote_at(submission_id, name)
                return cell, CaseEvidence(address, found.record, [], [found.entry], found.receipt)
        raise away or DomainError(ErrorCode.CASE_NOT_FOUND)

    def _cell(self, name: str) -> EvidenceCell:
        with none_such(DomainError(ErrorCode.CASE_NOT_FOUND)):
            return self._cell_of(name)


async def _collected(address: CaseAddress, cell: EvidenceCell) -> CaseEvidence:
    """Return the evidence of a case; its entries under the first tree head that all of them are under."""
    runs = await cell.runs.of(address.workflow_id)
    kept = await cell.records.sealed(address)
    if kept.decision is None and not runs and not kept.places:
        raise DomainError(ErrorCode.CASE_NOT_FOUND)
    evidence = CaseEvidence(address, kept.decision, runs, await _proved(kept.places, cell.log))
    _require_sealed(evidence)
    return evidence


def _require_sealed(evidence: CaseEvidence) -> None:
    """Raise DomainError `record_contradicted` where the record is not what the case's entries were written of."""
    if evidence.decision is None:
        return
    entries = [json.loads(proved.entry) for proved in evidence.entries]
    sealed = [SealedEntry(entry["kind"], entry["body"]) for entry in entries]
    try:
        compare_with_entries(evidence.address.kind, evidence.decision, sealed)
    except ContradictedError as error:
        raise DomainError(ErrorCode.RECORD_CONTRADICTED, str(error)) from error


async def _proved(places: Sequence[int | None], log: LogReading) -> list[ProvedEntry]:
    known = [place for place in places if place is not None]
    if not places:
        return []
    head = await log.first_over(max(known)) if len(known) == len(places) else None
    if head is None:
        raise DomainError(ErrorCode.NOT_SEALED_YET, retry_after_s=_SEALED_WITHIN_S)
    return [await log.prove(place, head) for place in sorted(known)]
