"""One pass over a cell's ledger: rows are read in order and checked beside the reading, a few chunks at a time."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from domain.contracts.reconciliation import CellChecked, CheckCellInput, Difference, DifferenceKind
from domain.errors import DomainError
from domain.ledger_rows import LedgerTransaction
from domain.ledger_sums import LedgerSums, check_sums
from domain.reconciliation import EvidenceCheck, Findings, check_transactions, participation_name, stray_ballots
from domain.reconciliation_ports import EvidenceKeys, LedgerAudit, LedgerPass

_CHUNKS_AT_ONCE = 4


@dataclass(slots=True)
class _Read:
    findings: Findings = field(default_factory=Findings)
    away: set[str] = field(default_factory=set)  # cells that could not be asked for nullifiers


class LedgerReading:
    """Reads what is new, or everything, and keeps what it came to."""

    def __init__(
        self,
        request: CheckCellInput,
        ledger: LedgerAudit,
        others: Mapping[str, LedgerAudit],
        evidence: EvidenceKeys,
        executor: Executor,
    ) -> None:
        """A complete pass looks for nullifiers in no other cell: comparing all of them comes after it."""
        self._request = request
        self._ledger = ledger
        self._others = {} if request.complete else others
        self._evidence = evidence
        self._executor = executor

    async def run(self) -> tuple[CellChecked, list[Difference]]:
        """Return what was checked and what was found in this pass, both kept.

        Raises:
            DomainError: `ledger_unavailable` or `key_unavailable`; nothing was kept.
        """
        request = self._request
        async with self._ledger.open_pass(request.survey_id, complete=request.complete) as current:
            # The keys after the snapshot: whatever it shows was signed under a key that was published before
            is_admitted = await self._evidence.check_for(request.cell)
            read = await self._read(current, is_admitted, everywhere=False)
            if current.missed:
                read = await self._read(current, is_admitted, everywhere=True)
            findings = read.findings
            differences = [*findings.differences, *await self._strays(current, findings)]
            if not current.is_installed:
                differences.append(self._not_installed())
            whole = LedgerSums()
            whole.add(current.sums)
            whole.add(findings.sums)
            differences += check_sums(request.cell, whole)
            uncompared = bool(read.away) or (not request.complete and current.uncompared)
            checked = await current.keep(findings.sums, differences, uncompared=uncompared)
        return checked.model_copy(
            update={
                "transactions": findings.transactions,
                "evidence_checked": findings.evidence_checked,
                "compared_with": tuple(sorted(self._others.keys() - read.away)),
                "uncompared": uncompared,
            }
        ), differences

    async def _read(self, current: LedgerPass, is_admitted: EvidenceCheck, *, everywhere: bool) -> _Read:
        read = _Read()
        loop = asyncio.get_running_loop()
        running: set[asyncio.Future[Findings]] = set()
        try:
            async for chunk in current.transactions(everywhere=everywhere):
                cell, survey_id = self._request.cell, self._request.survey_id
                running.add(
                    loop.run_in_executor(self._executor, check_transactions, cell, survey_id, chunk, is_admitted)
                )
                await self._look_elsewhere(chunk, read)
                while len(running) >= _CHUNKS_AT_ONCE:
                    running = await _take_finished(running, read)
            while running:
                running = await _take_finished(running, read)
        finally:
            for check in running:
                check.cancel()
        return read

    async def _look_elsewhere(self, chunk: list[LedgerTransaction], read: _Read) -> None:
        own = self._request.survey_id
        asked = self._others.keys() - read.away
        nullifiers = [row.nullifier for each in chunk if asked for row in each.participations if row.survey_id == own]
        if not nullifiers:
            return
        for cell in sorted(asked):
            try:
                twice = await self._others[cell].holds(own, nullifiers)
            except DomainError:
                read.away.add(cell)
                continue
            read.findings.differences += [
                Difference(
                    kind=DifferenceKind.NULLIFIER_IN_TWO_CELLS,
                    cell=self._request.cell,
                    detail="the same nullifier took part in another cell",
                    participation=participation_name(nullifier),
                    other_cell=cell,
                )
                for nullifier in twice
            ]

    async def _strays(self, current: LedgerPass, findings: Findings) -> list[Difference]:
        existing = await current.existing({ballot.batch for ballot in findings.strays})
        return stray_ballots(self._request.cell, findings.strays, existing)

    def _not_installed(self) -> Difference:
        return Difference(
            kind=DifferenceKind.SURVEY_NOT_INSTALLED,
            cell=self._request.cell,
            detail="the cell does not have the survey",
        )


async def _take_finished(running: set[asyncio.Future[Findings]], read: _Read) -> set[asyncio.Future[Findings]]:
    done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for check in done:
        read.findings.add(check.result())
    return waiting
