"""The catalogue of audit entries: every kind has its form, and nothing else is written."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.audit import ENTRY_MAX, RULES, AuditEntry, AuditKind, EntryTooLargeError, actor_of, canonical_entry
from domain.audit_log import bundle, checkpoint_path, entries_of, size_at

SURVEY = "s_aaaaaaaaaaaaaaaa"
AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "kind": AuditKind.SURVEY_UPDATED,
    "actor": "staff:u_eu_x",
    "subject": SURVEY,
    "role": "admin",
    "before": bytes(32),
    "after": bytes(range(32)),
}


def test_every_kind_has_its_rule() -> None:
    assert RULES.keys() == set(AuditKind)


def test_an_entry_says_what_it_has_and_nothing_empty() -> None:
    entry = AuditEntry(**GOOD)
    assert entry.body == {
        "actor": "staff:u_eu_x",
        "role": "admin",
        "subject": SURVEY,
        "outcome": "done",
        "before": bytes(32).hex(),
        "after": bytes(range(32)).hex(),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "Ann Example"},
        {"actor": ""},
        {"subject": "s_short"},
        {"subject": "v_eu_" + "a" * 26},  # an entry names no voter
        {"reason": "because Ann asked"},
        {"outcome": "ann@example.org's"},
        {"before": None},
        {"after": b"short"},
        {"facts": {"mail": "x"}},
        {"kind": AuditKind.SURVEY_CREATED},
    ],
)
def test_what_is_not_of_its_kind_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not an entry"):
        AuditEntry(**{**GOOD, **change})


def test_no_subject_can_be_a_voter_or_a_person() -> None:
    for name in ("v_eu_" + "a" * 26, "p_" + "a" * 26):
        assert not any(rule.subject.fullmatch(name) for rule in RULES.values())


@pytest.mark.parametrize(
    ("name", "actor"), [("staff:u_x", "staff:u_x"), ("identity", "process:identity"), ("", "process:unknown")]
)
def test_whoever_acts_has_a_kind(name: str, actor: str) -> None:
    assert actor_of(name) == actor


def test_a_leaf_is_the_one_form_of_its_row() -> None:
    leaf = canonical_entry("an id", AT, "votes.recorded", {"b": 1, "a": ["\u00e9"]})
    assert (
        leaf
        == (
            '{"at":"2026-01-02T03:04:05.000678Z","body":{"a":["\u00e9"],"b":1},"id":"an id","kind":"votes.recorded"}'
        ).encode()
    )
    assert canonical_entry("an id", AT, "votes.recorded", json.loads('{"a": ["\\u00e9"], "b": 1}')) == leaf
    with pytest.raises(EntryTooLargeError):
        canonical_entry("an id", AT, "x", "y" * ENTRY_MAX)


def test_a_bundle_gives_its_entries_back_and_nothing_that_is_cut() -> None:
    leaves = [b"", b"one", b"x" * ENTRY_MAX]
    content = bundle(leaves)
    assert entries_of(content) == leaves
    assert entries_of(b"") == []
    for cut in (1, 3, len(content) - 1):
        with pytest.raises(ValueError, match="cannot be read"):
            entries_of(content[:cut])
    with pytest.raises(ValueError, match="cannot be read"):
        entries_of(bundle([b"x"] * 257))


@pytest.mark.parametrize("size", [0, 7, 999, 1000, 1_234_067, 10**11])
def test_a_checkpoint_of_a_size_has_one_name(size: int) -> None:
    path = checkpoint_path(size)
    assert size_at(path.removeprefix("checkpoints/")) == size
    assert path < checkpoint_path(size + 1)


@pytest.mark.parametrize("path", ["", "007", "x000/x000/x000/x007", "x000/x000/x000/07", "x000/x000/x000/007.p"])
def test_other_names_are_no_checkpoints(path: str) -> None:
    assert size_at(path) is None
