"""What stays longer than it should, in every cell, against the targets of each stage."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from api.support.cells import SupportCell
from domain.case_targets import TARGETS, Target
from domain.cases import CaseAddress, Standing, case_of_workflow
from domain.errors import DomainError, ErrorCode

_AWAY: Final = frozenset({ErrorCode.CELL_UNAVAILABLE, ErrorCode.DIRECTORY_UNAVAILABLE, ErrorCode.WORKFLOWS_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Stuck:
    """A process that is late: since when it is where it is, and its case, unless it is a batch of many votes."""

    standing: Standing
    target: Target
    since: datetime
    cell: str
    case: CaseAddress | None


@dataclass(frozen=True, slots=True)
class StuckProcesses:
    """The latest first, and the cells that could not be asked."""

    found: Sequence[Stuck]
    has_more: bool
    missing_cells: Sequence[str]


class StuckDesk:
    """Looks for what is late; a process is found by its age, and then by how long it has been at its stage."""

    def __init__(
        self,
        cells: Sequence[str],
        cell_of: Callable[[str | None], SupportCell],
        targets: Sequence[Target] = TARGETS,
    ) -> None:
        self._cells = cells
        self._cell_of = cell_of
        self._targets = targets

    async def look(self, limit: int) -> StuckProcesses:
        """Return at most `limit` processes over all cells, those first that are late for longest.

        Raises:
            DomainError: `cell_unavailable`; no cell could be asked.
        """
        answers = await asyncio.gather(*(self._in_cell(name, limit) for name in self._cells))
        missing = [name for name, found in zip(self._cells, answers, strict=True) if found is None]
        if len(missing) == len(self._cells):
            raise DomainError(ErrorCode.CELL_UNAVAILABLE, "no cell could be asked")
        late = sorted(
            (each for found in answers for each in found or ()), key=lambda each: each.since + each.target.within
        )
        return StuckProcesses(late[:limit], len(late) > limit, missing)

    async def _in_cell(self, name: str, limit: int) -> list[Stuck] | None:
        try:
            cell = self._cell_of(name)
            found = await asyncio.gather(*(_late(cell, target, limit) for target in self._targets))
        except DomainError as error:
            if error.code in _AWAY:
                return None
            raise
        return [each for late in found for each in late]


async def _late(cell: SupportCell, target: Target, limit: int) -> list[Stuck]:
    before = datetime.now(UTC) - target.within
    open_ones, _ = await cell.standings.open_since(target.process, target.stage, before, limit + 1)
    if not open_ones:
        return []
    standings = await cell.standings.of_all(open_ones)
    addresses = {standing.workflow_id: case_of_workflow(standing.workflow_id) for standing in standings}
    since = await _at_stage_since(cell, target, addresses.values())
    late = []
    for standing in standings:
        address = addresses[standing.workflow_id]
        began = since.get(address.case_id) if target.stage and address is not None else standing.began_at
        if began is not None and began <= before and standing.ended_at is None:
            late.append(Stuck(standing, target, began, cell.name, address))
    return late


async def _at_stage_since(
    cell: SupportCell, target: Target, addresses: Iterable[CaseAddress | None]
) -> dict[str, datetime]:
    """Return since when each registration has been at the target's stage; those at another one are left out."""
    if not target.stage:
        return {}
    rows = await cell.cases.registrations([address.case_id for address in addresses if address is not None])
    return {row.case_id: row.changed_at for row in rows if row.stage == target.stage}
