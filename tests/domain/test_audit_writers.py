"""Every kind of audit entry has somebody who writes it, in a name that entries have."""

import re

from domain.audit import AuditKind
from domain.audit_writers import NOBODY, WRITERS, EntryWriter

_ACTOR = re.compile(r"(staff|client|comitia):\*|process:[a-z-]+")


def test_every_kind_is_written_by_somebody() -> None:
    assert WRITERS.keys() == set(EntryWriter)
    assert {kind for writing in WRITERS.values() for kind in writing} == set(AuditKind)


def test_what_is_decided_and_done_is_written_by_one_service_alone() -> None:
    sign_ins = {AuditKind.STAFF_SIGNED_IN, AuditKind.STAFF_REFUSED}
    for kind in set(AuditKind) - sign_ins:
        assert sum(kind in writing for writing in WRITERS.values()) == 1, kind


def test_every_entry_is_in_a_name_or_in_none() -> None:
    for writing in WRITERS.values():
        for kind, actors in writing.items():
            assert actors, kind
            assert actors == {NOBODY} or all(_ACTOR.fullmatch(actor) for actor in actors), kind


def test_only_the_ledger_speaks_in_no_name() -> None:
    assert {writer for writer, writing in WRITERS.items() if {NOBODY} in writing.values()} == {EntryWriter.VOTING}
