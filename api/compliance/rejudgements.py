"""Recorded decisions under another policy, asked for by compliance officers: an entry first, then a process."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.compliance.cancelling import cancel_work
from api.compliance.periods import require_past
from api.http.access import Principal
from api.named_cells import none_such
from domain.contracts.rejudging import DecisionProcess, RejudgeInput, RejudgementState
from domain.errors import DomainError, ErrorCode
from domain.ids import REJUDGEMENT_ID, cell_in, derived_id
from domain.judging_entries import rejudgement_entry
from domain.rejudging import judge_under
from domain.staff_entries import StaffEntries
from domain.tokens import Role
from integrations.identity_cell import IdentityCell
from integrations.postgres.staff_entries import PostgresStaffEntries
from integrations.temporal.rejudgements import TemporalRejudgements


@dataclass(frozen=True, slots=True)
class RejudgingCell:
    """What this needs of one cell."""

    entries: StaffEntries
    processes: TemporalRejudgements


def rejudging_cell(cell: IdentityCell) -> RejudgingCell:
    """Return the same over a cell's clients."""
    return RejudgingCell(PostgresStaffEntries(cell.pool), TemporalRejudgements(cell.temporal, cell.name))


@dataclass(frozen=True, slots=True)
class RejudgementOrder:
    """Whose decisions are judged again, of which period of a cell, and under what; `policy` as documents have it."""

    cell: str
    process: DecisionProcess
    since: datetime
    until: datetime
    policy: Mapping[str, Any]


class RejudgementDesk:
    """Begins comparisons, and says how far they are."""

    def __init__(self, cell_of: Callable[[str | None], RejudgingCell]) -> None:
        """`cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cell_of = cell_of

    async def ask(self, order: RejudgementOrder, key: str, staff: Principal) -> RejudgementState:
        """Return a comparison that is durably on its way, its entry written before. Safe to repeat under one key.

        Raises:
            DomainError: `malformed_request` for what is no policy or no past period, `not_found` for no cell,
                `idempotency_key_used`, `cell_unavailable`, `directory_unavailable`, `workflows_unavailable`.
        """
        policy = json.dumps(order.policy, sort_keys=True, separators=(",", ":"))
        try:
            judge_under(order.process, policy)
        except ValueError as error:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, f"policy: {error}") from error
        require_past(order.since, order.until)
        cell = self._cell(order.cell)
        request = RejudgeInput(
            rejudgement_id=derived_id(f"j_{order.cell}", f"{staff.actor}\n{key}"),
            cell=order.cell,
            process=order.process,
            since=order.since,
            until=order.until,
            policy=policy,
        )
        await cell.entries.note(
            f"{request.rejudgement_id}/asked", rejudgement_entry(request, staff.actor, Role.COMPLIANCE)
        )
        await cell.processes.start(request)
        return RejudgementState(
            rejudgement_id=request.rejudgement_id,
            process=request.process,
            since=request.since,
            until=request.until,
            judged_until=request.since,
        )

    async def read(self, rejudgement_id: str) -> RejudgementState:
        """Return how far it is. Raises DomainError `not_found`, `cell_unavailable`, `workflows_unavailable`."""
        return await self._cell(cell_in(REJUDGEMENT_ID, rejudgement_id)).processes.state(rejudgement_id)

    async def cancel(self, rejudgement_id: str, staff: Principal) -> RejudgementState:
        """Return how far it was when it was cancelled. Safe to repeat.

        Raises:
            DomainError: `not_found`, `work_ended`, `cell_unavailable`, `directory_unavailable`,
                `workflows_unavailable`.
        """
        cell = self._cell(cell_in(REJUDGEMENT_ID, rejudgement_id))
        await cell.processes.state(rejudgement_id)  # nothing is written down of what was never asked for
        return await cancel_work(
            rejudgement_id, staff, cell.entries, lambda request: cell.processes.cancel(rejudgement_id, request)
        )

    def _cell(self, name: str | None) -> RejudgingCell:
        with none_such(DomainError(ErrorCode.NOT_FOUND, "no such cell")):
            return self._cell_of(name)
