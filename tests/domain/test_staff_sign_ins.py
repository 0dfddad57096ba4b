"""Entries of sign-ins: one of a session at a service, and nothing in them that opens anything."""

import secrets

import pytest

from domain.audit import AuditEntry, AuditKind
from domain.errors import ErrorCode
from domain.ids import new_staff_id
from domain.staff_sign_ins import digest_of, refused, signed_in
from domain.tokens import Role

STAFF = new_staff_id("eu")
SESSION = secrets.token_urlsafe(12)
ENTRY = signed_in(STAFF, SESSION, [Role.SUPPORT, Role.ADMIN], "support")


def test_an_entry_says_who_came_with_which_roles_and_where() -> None:
    assert ENTRY.kind is AuditKind.STAFF_SIGNED_IN
    assert ENTRY.body == {
        "actor": f"staff:{STAFF}",
        "role": "admin,support",
        "subject": ENTRY.subject,
        "outcome": "done",
        "facts": {"service": "support"},
    }
    assert SESSION not in str(ENTRY)


def test_the_same_session_is_the_same_entry_in_whatever_order_its_roles_come() -> None:
    assert digest_of(signed_in(STAFF, SESSION, [Role.ADMIN, Role.SUPPORT], "support")) == digest_of(ENTRY)


@pytest.mark.parametrize(
    "other",
    [
        signed_in(new_staff_id("eu"), SESSION, [Role.SUPPORT, Role.ADMIN], "support"),
        signed_in(STAFF, "another", [Role.SUPPORT, Role.ADMIN], "support"),
        signed_in(STAFF, SESSION, [Role.SUPPORT], "support"),
        signed_in(STAFF, SESSION, [Role.SUPPORT, Role.ADMIN], "compliance"),
        refused(STAFF, SESSION, [Role.SUPPORT, Role.ADMIN], "support", ErrorCode.FORBIDDEN),
        refused(STAFF, SESSION, [Role.SUPPORT, Role.ADMIN], "support", ErrorCode.PROOF_INVALID),
    ],
)
def test_whatever_differs_is_another_entry(other: AuditEntry) -> None:
    assert digest_of(other) != digest_of(ENTRY)


def test_a_name_that_no_entry_can_have_does_not_keep_it_from_being_written() -> None:
    assert signed_in("Ann Example <ann@example.org>", SESSION, [], "support").actor == "staff:unknown"
