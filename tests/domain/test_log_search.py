"""What a sealed entry is found by."""

from datetime import UTC, datetime

import pytest

from domain.audit import canonical_entry
from domain.log_search import IndexedEntry, indexed
from tests.log_world import leaf

AT = datetime(2027, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
ID = "00000000-0000-0000-0000-000000000001"


def test_it_is_found_by_who_acted_and_on_what() -> None:
    body = {"actor": "staff:u_x", "subject": "s_y", "outcome": "done", "facts": {"actor": "another"}}
    sealed = canonical_entry(ID, AT, "survey.paused", body)
    assert indexed(7, sealed) == IndexedEntry(7, AT, "survey.paused", "staff:u_x", "s_y")


@pytest.mark.parametrize("body", [{}, {"actor": 5, "subject": ["s_y"]}, [], "text", None])
def test_what_names_nobody_is_found_by_its_kind_and_time(body: object) -> None:
    assert indexed(7, canonical_entry(ID, AT, "a.later_kind", body)) == IndexedEntry(7, AT, "a.later_kind", "", "")


def test_a_batch_of_votes_is_not_looked_for_and_a_fault_of_one_is() -> None:
    assert indexed(0, leaf(0)) is None
    fault = indexed(0, leaf(0, "fault.vote_for_lost_survey"))
    assert fault is not None
    assert (fault.kind, fault.actor) == ("fault.vote_for_lost_survey", "")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", b'{"at":"x","body":{},"kind":"k"}', b'{"at":1,"kind":"k"}']
)
def test_what_is_no_entry_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several causes
        indexed(0, text)
