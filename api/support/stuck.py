"""What stays longer than it should, in every cell, against the targets of each stage."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from api.support.cells import SupportCell
from domain.case_targets import FAILING, TARGETS, Target
from domain.cases import CaseAddress, Standing, case_of_workflow
from domain.errors import DomainError, ErrorCode

LOOKED_AT_MAX: Final = 5_000  # executions of one process, stage and cell: five answers of Temporal
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
    """The latest first, and the cells that could not be asked; `is_truncated` where some had too many to look at."""

    found: Sequence[Stuck]
    has_more: bool
    missing_cells: Sequence[str]
    is_truncated: bool


class StuckDesk:
    """Looks for what is late; a process is found by its age, and then by how long it has been at its stage."""

    def __init__(
        self,
        cells: Sequence[str],
        cell_of: Callable[[str | None], SupportCell],
        targets: Sequence[Target] = TARGETS,
        *,
        most: int = LOOKED_AT_MAX,
    ) -> None:
        """`most` is how many executions are looked at of a cell and a target."""
        self._cells = cells
        self._cell_of = cell_of
        self._targets = targets
        self._most = most

    async def look(self, limit: int) -> StuckProcesses:
        """Return at most `limit` processes over all cells, those first that are late for longest.

        Raises:
            DomainError: `cell_unavailable`; no cell could be asked.
        """
        answers = await asyncio.gather(*(self._in_cell(name, limit) for name in self._cells))
        missing = [name for name, found in zip(self._cells, answers, strict=True) if found is None]
        if len(missing) == len(self._cells):
            raise DomainError(ErrorCode.CELL_UNAVAILABLE, "no cell could be asked")
        every = (each for found in answers if found is not None for each in found[0])
        late = sorted(_once(every), key=lambda each: each.since + each.target.within)
        is_truncated = any(found is not None and found[1] for found in answers)
        return StuckProcesses(late[:limit], len(late) > limit, missing, is_truncated)

    async def _in_cell(self, name: str, limit: int) -> tuple[list[Stuck], bool] | None:
        try:
            cell = self._cell_of(name)
            found = await asyncio.gather(
                _failing(cell, limit), *(_late(cell, target, limit, self._most) for target in self._targets)
            )
        except DomainError as error:
            if error.code in _AWAY:
                return None
            raise
        return [each for late, _ in found for each in late], any(truncated for _, truncated in found)


def _once(found: Iterable[Stuck]) -> Iterator[Stuck]:
    """Return each process once, and as one whose own code fails where it does: it is late for that."""
    known: dict[tuple[str, str], Stuck] = {}
    for each in found:
        known.setdefault((each.cell, each.standing.workflow_id), each)
    return iter(known.values())


async def _failing(cell: SupportCell, limit: int) -> tuple[list[Stuck], bool]:
    """Return those whose own code fails again and again, whatever they wait for."""
    ids, is_truncated = await cell.standings.every_failing(limit + 1)
    found = [
        Stuck(standing, FAILING, pending.failing_since, cell.name, case_of_workflow(standing.workflow_id))
        for standing in await cell.standings.of_all(ids)
        for pending in standing.pending
        if pending.failing_since is not None
    ]
    return found, is_truncated


async def _late(cell: SupportCell, target: Target, limit: int, most: int) -> tuple[list[Stuck], bool]:
    """Return those that are late for longest, enough to tell whether there are more than `limit`."""
    before = datetime.now(UTC) - target.within
    began, is_truncated = await cell.standings.every_open_since(target.process, target.noted, before, most)
    addresses = {workflow_id: case_of_workflow(workflow_id) for workflow_id in began}
    since = await _since(cell, target, began, addresses)
    waiting = sorted((at, workflow_id) for workflow_id, at in since.items() if at <= before)
    late: list[Stuck] = []
    while waiting and len(late) <= limit:  # some have ended since they were listed
        asked, waiting = {workflow_id: at for at, workflow_id in waiting[: limit + 1]}, waiting[limit + 1 :]
        late += [
            Stuck(standing, target, asked[standing.workflow_id], cell.name, addresses[standing.workflow_id])
            for standing in await cell.standings.of_all(list(asked))
            if standing.ended_at is None
        ]
    return late, is_truncated


async def _since(
    cell: SupportCell, target: Target, began: Mapping[str, datetime], addresses: Mapping[str, CaseAddress | None]
) -> Mapping[str, datetime]:
    """Return since when each has been where it is; registrations that are at another stage are left out."""
    if target.since_it_began:
        return began
    cases = {address.case_id: workflow_id for workflow_id, address in addresses.items() if address is not None}
    rows = await cell.cases.registrations(list(cases)) if cases else []
    return {cases[row.case_id]: row.changed_at for row in rows if row.stage == target.stage}
