"""That staff came in, and that a token of theirs was refused, as audit entries: one of a session at a service.

The console writes down each session that it opens, each that it ends for a copied cookie, and each sign-in of a member
that it refuses. Others have no session but the one that their tokens name: a
service writes down the first token of a session that it lets in, and of those that it refuses the first for each
cause. A session is named by a hash of its id, which proves nothing and leads nowhere. What nobody of ours has signed
names nobody, and is counted, not written down.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final, Protocol

from domain.audit import AuditEntry, AuditKind
from domain.certificates import canonical_json
from domain.ids import derived_id
from domain.tokens import Role

_STAFF_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,80}")


class StaffSignIns(Protocol):
    """The entries of one log. All calls raise a retryable DomainError where it cannot be written to."""

    async def note(self, entry: AuditEntry) -> bool:
        """Write an entry, unless the same is there; tell whether it was written. Safe to repeat, at once by many."""
        ...


def signed_in(staff_id: str, session_id: str, roles: Iterable[Role], service: str) -> AuditEntry:
    """Return the entry of a session of staff that a service lets in; other roles are another entry."""
    return _entry(AuditKind.STAFF_SIGNED_IN, staff_id, session_id, roles, service, outcome="done")


def refused(staff_id: str, session_id: str, roles: Iterable[Role], service: str, why: str) -> AuditEntry:
    """Return the entry of a genuine token of staff, a sign-in or a session that a service refuses; `why` is a code."""
    return _entry(AuditKind.STAFF_REFUSED, staff_id, session_id, roles, service, outcome=str(why))


def digest_of(entry: AuditEntry) -> bytes:
    """Return the SHA-256 by which an entry is known to be there already."""
    return hashlib.sha256(canonical_json({"kind": entry.kind.value, **entry.body})).digest()


def _entry(
    kind: AuditKind, staff_id: str, session_id: str, roles: Iterable[Role], service: str, *, outcome: str
) -> AuditEntry:
    return AuditEntry(
        kind,
        f"staff:{staff_id if _STAFF_NAME.fullmatch(staff_id) else 'unknown'}",
        derived_id("t", session_id),
        role=",".join(sorted(roles)),
        outcome=outcome,
        facts={"service": service},
    )
