"""What staff did with a survey: the row that the catalogue shows, and the audit entry, in one transaction with it."""

from collections.abc import Mapping
from typing import Any, Final

from domain.audit import AuditEntry, AuditKind, actor_of
from domain.tokens import Role
from integrations.postgres import catalogue_statements as sql
from integrations.postgres.audit_entries import append

KINDS: Final[Mapping[str, AuditKind]] = {
    "create": AuditKind.SURVEY_CREATED,
    "update": AuditKind.SURVEY_UPDATED,
    "delete": AuditKind.SURVEY_DELETED,
    "publish": AuditKind.SURVEY_PUBLISHED,
    "correct": AuditKind.SURVEY_CORRECTED,
    "pause": AuditKind.SURVEY_PAUSED,
    "resume": AuditKind.SURVEY_RESUMED,
    "extend": AuditKind.SURVEY_EXTENDED,
    "finish": AuditKind.SURVEY_FINISHED,
    "certify": AuditKind.CERTIFICATION_ASKED,
    "destroy_keys": AuditKind.SURVEY_KEYS_DESTROYED,
    "export": AuditKind.EXPORT_ASKED,
}
_STAFF = ("staff:", "client:")


async def note_action(
    connection: Any,
    actor: str,
    action: str,
    survey_id: str,
    *,
    before: bytes | None = None,
    after: bytes | None = None,
    facts: Mapping[str, str | int] | None = None,
) -> None:
    """Note an action, one of `KINDS`, with the digests (32 bytes) of the survey before and after it."""
    await connection.execute(sql.STAFF_ACTION, actor, action, survey_id, before, after)
    by = actor_of(actor)
    await append(
        connection,
        AuditEntry(
            KINDS[action],
            by,
            survey_id,
            role=Role.ADMIN if by.startswith(_STAFF) else "",  # nobody else of them manages surveys
            before=before,
            after=after,
            facts=facts or {},
        ),
    )
