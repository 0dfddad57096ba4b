"""Who of staff has read a case: its entry, committed before anything of it is shown."""

from datetime import UTC, datetime, timedelta
from typing import Final

from api.http.access import Principal
from domain.audit import AuditEntry, AuditKind
from domain.ids import derived_id
from domain.staff_entries import NotedEntries
from domain.tokens import Role

ONCE_IN: Final = timedelta(minutes=10)  # a page that is open asks every three seconds
_FIRST: Final = datetime(2026, 1, 1, tzinfo=UTC)


async def note_reading(entries: NotedEntries, case_id: str, staff: Principal, now: datetime) -> None:
    """Return once an entry says that they have read this case about now: one for each of them, case and `ONCE_IN`.

    Raises:
        DomainError: `directory_unavailable`.
    """
    role = Role.COMPLIANCE if Role.COMPLIANCE in staff.roles else Role.SUPPORT  # the one that sees more
    time = (now - _FIRST) // ONCE_IN
    key = derived_id("cr", f"{staff.actor}\n{role}\n{case_id}\n{time}")
    await entries.note(key, AuditEntry(AuditKind.HISTORY_READ, staff.actor, case_id, role=role.value))
