"""The steps of break-glass as others see them: an audit entry each, and a mail to whoever watches over data."""

from collections.abc import Callable
from typing import Any, Final

from temporalio import activity

from activities.failures import to_application_error
from domain.audit import AuditEntry, AuditKind
from domain.contracts.support import UnmaskingNote
from domain.errors import DomainError, ErrorCode
from domain.mailing import Mailer, Message, MessageKind
from domain.staff_entries import NotedEntries

_BY_ITSELF: Final = "process:break-glass"
_UNTOLD: Final = "not_told"


class UnmaskingActivities:
    """Unmaskings of one cell; holds the ports so that a test can pass its own."""

    def __init__(self, entries: NotedEntries, mailer: Mailer, data_protection: str) -> None:
        """`data_protection` is the address of whoever watches over data, or empty where none is set."""
        self._entries = entries
        self._mailer = mailer
        self._data_protection = data_protection

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.note_unmasking, self.tell_of_unmasking]

    @activity.defn(name="note_unmasking")
    async def note_unmasking(self, note: UnmaskingNote) -> None:
        """Write the audit entry of a step. Safe to repeat: one key, one entry.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        entry = AuditEntry(
            AuditKind.CASE_UNMASKING,
            note.actor,
            note.case_id,
            role=note.role,
            reason=note.reason,
            outcome=note.step.value,
            facts={"unmasking": note.request_id, "field": note.field},
        )
        try:
            await self._entries.note(note.key, entry)
        except DomainError as error:
            raise to_application_error(error) from error

    async def _send(self, message: Message, note: UnmaskingNote) -> None:
        try:
            await self._mailer.send(message)
        except DomainError as error:
            if not error.spec.retryable:
                await self._note_untold(note)
            raise

    async def _note_untold(self, note: UnmaskingNote) -> None:
        facts = {"unmasking": note.request_id, "field": note.field}
        entry = AuditEntry(AuditKind.CASE_UNMASKING, _BY_ITSELF, note.case_id, outcome=_UNTOLD, facts=facts)
        await self._entries.note(f"{note.key}/{_UNTOLD}", entry)

    @activity.defn(name="tell_of_unmasking")
    async def tell_of_unmasking(self, note: UnmaskingNote) -> None:
        """Write to whoever watches over data. Safe to repeat: one key, one Message-ID.

        That it was refused for good is an audit entry: the unmasking goes on.

        Raises:
            ApplicationError: `mail_refused`; `mail_unavailable` (retried), also where no address is set;
                `directory_unavailable` (retried).
        """
        lines = (
            f"What happened: {note.step.value}",
            f"By: {note.actor}",
            f"Case: {note.case_id}",
            f"Field: {note.field}",
            f"Reason: {note.reason}",
            f"Request: {note.request_id}",
        )
        try:
            if not self._data_protection:
                raise DomainError(ErrorCode.MAIL_UNAVAILABLE, "no address is set of who watches over data")
            message = Message(
                key=note.key, to=self._data_protection, kind=MessageKind.UNMASKING, advice="\n".join(lines)
            )
            await self._send(message, note)
        except DomainError as error:
            raise to_application_error(error) from error
