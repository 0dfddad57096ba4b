"""Replays, asked for by compliance officers: kept with their entry first, then a process; verdicts as they come."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.compliance.cancelling import cancel_work
from api.compliance.periods import require_past
from api.http.access import Principal
from api.named_cells import none_such
from domain.contracts.replays import ReplayInput, ReplayState
from domain.contracts.work import CancelWork, WorkStage
from domain.errors import DomainError, ErrorCode
from domain.ids import REPLAY_ID, cell_in, cell_of_workflow, derived_id
from domain.judging_entries import replay_entry
from domain.replay import ReplayCode, Verdict
from domain.replay_ports import KeptVerdict, ReplayRecords
from domain.staff_entries import StaffEntries
from domain.tokens import Role
from integrations.identity_cell import IdentityCell
from integrations.postgres.replays import PostgresReplays
from integrations.postgres.staff_entries import PostgresStaffEntries
from integrations.temporal.replay_judging import PLATFORM
from integrations.temporal.replays import TemporalReplays

_AT_ONCE: Final = 500  # verdicts of a stream that are read together


@dataclass(frozen=True, slots=True)
class ReplayCell:
    """What this needs of one cell."""

    records: ReplayRecords
    entries: StaffEntries
    processes: TemporalReplays


def replay_cell(cell: IdentityCell) -> ReplayCell:
    """Return the same over a cell's clients."""
    return ReplayCell(
        PostgresReplays(cell.pool), PostgresStaffEntries(cell.pool), TemporalReplays(cell.temporal, cell.name)
    )


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """One execution, its newest run without `run_id`; or what started in a namespace in a period, maybe of one type.

    `code` is which code it is replayed with. `archived` reads histories out of the archive of a cell.
    """

    workflow_id: str = ""
    run_id: str = ""
    namespace: str = ""
    workflow_type: str = ""
    since: datetime | None = None
    until: datetime | None = None
    code: ReplayCode = ReplayCode.THIS
    archived: bool = False

    def place(self) -> str:
        """Return the namespace that it is about. Raises DomainError `malformed_request` for what is neither."""
        period = (self.namespace, self.since, self.until)
        is_one = bool(self.workflow_id) and not any((*period, self.workflow_type))
        is_period = all(period) and not (self.workflow_id or self.run_id)
        if not (is_one or is_period):
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "one execution, or a cell with `from` and `to`")
        if self.since is not None and self.until is not None:
            require_past(self.since, self.until)
        place = self.namespace or cell_of_workflow(self.workflow_id) or PLATFORM
        if self.archived and place == PLATFORM:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "archived: the platform's archive is read by the command")
        return place


class ReplayDesk:
    """Begins replays, says how far they are, and has them cancelled. Nothing of what is replayed is carried out."""

    def __init__(self, cells: Collection[str], cell_of: Callable[[str | None], ReplayCell]) -> None:
        """`cells` are all that there are; `cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._home = min(cells)  # of replays of the platform, which belongs to no cell
        self._cells = frozenset(cells)
        self._cell_of = cell_of

    @property
    def cells(self) -> Sequence[str]:
        """The cells that replays are asked for in."""
        return sorted(self._cells)

    async def ask(self, order: ReplayOrder, key: str, staff: Principal) -> ReplayState:
        """Return a replay that is durably on its way, its entry written before. Safe to repeat under one key.

        Raises:
            DomainError: `malformed_request`, `not_found` for no cell, `idempotency_key_used`, `cell_unavailable`,
                `directory_unavailable`, `workflows_unavailable`.
        """
        namespace = order.place()
        home = self._home if namespace == PLATFORM else namespace
        cell = self._cell(home)
        request = ReplayInput(
            replay_id=derived_id(f"w_{home}", f"{staff.actor}\n{key}"),
            cell=home,
            namespace=namespace,
            workflow_id=order.workflow_id,
            run_id=order.run_id,
            workflow_type=order.workflow_type,
            since=order.since,
            until=order.until,
            code=order.code,
            archived=order.archived,
        )
        state = await cell.records.ask(request, replay_entry(request, staff.actor, Role.COMPLIANCE))
        if state.stage is WorkStage.RUNNING:
            await cell.processes.start(request)
        return state

    async def read(self, replay_id: str) -> ReplayState:
        """Return how far it is. Raises DomainError `not_found`, `cell_unavailable`, `directory_unavailable`."""
        return await _read(self._of(replay_id), replay_id)

    async def newest(self, cell: str, before: str | None, limit: int) -> Sequence[ReplayState]:
        """Return replays of a cell, newest first, behind the one of this id.

        Raises DomainError as `read` does, and `malformed_request` for an id of none that is kept.
        """
        records, place = self._cell(cell).records, None
        if before is not None:
            found = await records.find(before)
            if found is None:
                raise DomainError(ErrorCode.MALFORMED_REQUEST, "cursor: not one of ours")
            place = found.asked_at, before
        return await records.newest(place, limit)

    async def verdicts(
        self, replay_id: str, after: int, limit: int, only: Verdict | None = None
    ) -> Sequence[KeptVerdict]:
        """Return verdicts by their places, behind the place `after`. Raises DomainError as `read` does."""
        cell = self._of(replay_id)
        await _read(cell, replay_id)
        return await cell.records.verdicts(replay_id, after, limit, only)

    async def stream(self, replay_id: str, after: int, only: Verdict | None = None) -> AsyncIterator[KeptVerdict]:
        """Return every verdict that there is by now, behind the place `after`. Raises DomainError as `read` does."""
        while found := await self.verdicts(replay_id, after, _AT_ONCE, only):
            for verdict in found:
                yield verdict
            after = found[-1].number

    async def cancel(self, replay_id: str, staff: Principal) -> ReplayState:
        """Return how far it was when it was cancelled. Safe to repeat.

        Raises:
            DomainError: `not_found`, `work_ended`, `cell_unavailable`, `directory_unavailable`,
                `workflows_unavailable`.
        """
        cell = self._of(replay_id)
        state = await _read(cell, replay_id)

        async def ask(request: CancelWork) -> ReplayState:
            if (await _read(cell, replay_id)).stage is not WorkStage.CANCELLED:
                await cell.processes.start(state.request)  # whoever asked for it may have died before
                await cell.processes.cancel(replay_id, request)
            return await _read(cell, replay_id)

        return await cancel_work(replay_id, staff, cell.entries, ask)

    def _of(self, replay_id: str) -> ReplayCell:
        return self._cell(cell_in(REPLAY_ID, replay_id))

    def _cell(self, name: str | None) -> ReplayCell:
        with none_such(DomainError(ErrorCode.NOT_FOUND, "no such cell")):
            return self._cell_of(name)


async def _read(cell: ReplayCell, replay_id: str) -> ReplayState:
    found = await cell.records.find(replay_id)
    if found is None:
        raise DomainError(ErrorCode.NOT_FOUND, "no such replay, or not any more")
    return found
