"""Bundles that an earlier release exported, whose entries have less in them: they stay good, and say what they bind.

Each was exported over HTTP from a real case of the tests; `keys.json` is what that service answered for its keys.
"""

from pathlib import Path

import pytest

from domain.bundle_verification import read_bundle_keys, verify_bundle
from integrations.keys.signing import is_signed

BUNDLES = Path(__file__).parent / "bundles"
BEFORE = "a release before wrote it"
ENDED = f"the entry registration.ended says the same of stage and case, and nothing of the rest: {BEFORE}"
JUDGED = (
    f"the entry login.decided says the same, and nothing of method, provider and factors: {BEFORE}; it ended with it"
)


@pytest.mark.parametrize(
    ("name", "decided", "state"),
    [
        ("registration", ENDED, "the case is over"),
        ("open-registration", ENDED, "open: histories/1.history up to event "),  # rejected, and still to be appealed
        ("login", JUDGED, "the case is over"),
    ],
)
def test_a_bundle_of_an_earlier_release_is_as_good_as_it_was(name: str, decided: str, state: str) -> None:
    keys = read_bundle_keys((BUNDLES / "keys.json").read_bytes())
    checks = verify_bundle((BUNDLES / f"{name}.zip").read_bytes(), keys, is_signed)
    assert [check.name for check in checks if not check.holds] == []
    assert checks[9].detail == decided
    assert checks[10].detail.startswith(state)
