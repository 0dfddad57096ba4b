"""Has long work of a cell end before it is done: written down first, asked of its process, and written down again."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from api.http.access import Principal
from domain.audit import AuditEntry, AuditKind
from domain.contracts.work import CancelWork, WorkStage
from domain.errors import DomainError, ErrorCode
from domain.staff_entries import StaffEntries
from domain.tokens import Role

S = TypeVar("S")


async def cancel_work(
    work_id: str, staff: Principal, entries: StaffEntries, ask: Callable[[CancelWork], Awaitable[S]]
) -> S:
    """Return where some work stands that has ended by being cancelled; `ask` is answered by its process.

    Safe to repeat, and by many: each of them has an entry of asking and one of what came of it, once.

    Raises:
        DomainError: `work_ended` where it was done before; `directory_unavailable`, `workflows_unavailable`.
    """
    told = AuditEntry(AuditKind.WORK_CANCELLED, staff.actor, work_id, role=Role.COMPLIANCE.value, outcome="asked")
    key = f"{work_id}/cancelled/{staff.actor}"
    await entries.note(f"{key}/asked", told)
    try:
        state = await ask(CancelWork(actor=staff.actor, role=Role.COMPLIANCE.value))
    except DomainError as error:
        if error.code is ErrorCode.WORK_ENDED:
            await entries.note(f"{key}/taken", replace(told, outcome=error.code.value))
        raise
    await entries.note(f"{key}/taken", replace(told, outcome=WorkStage.CANCELLED.value))
    return state
