from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.eligibility import VoterStatus
from domain.sessions import (
    IDLE_LIFETIME,
    REPEAT_GRACE,
    REVOKED_FOR_S,
    RefreshVerdict,
    RevokedSessions,
    UsedToken,
    cell_of_refresh_token,
    judge_refresh,
    new_refresh_token,
    new_seed,
    refresh_token_hash,
    successor,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


def token(**fields: Any) -> UsedToken:
    found = {
        "jkt": "k" * 43,
        "status": VoterStatus.ACTIVE,
        "expires_at": NOW + timedelta(days=1),
        "last_used_at": NOW - timedelta(hours=1),
        "ended": False,
        "used_at": None,
        "seed": None,
    }
    return UsedToken(**{**found, **fields})


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, RefreshVerdict.ROTATE),
        ({"status": VoterStatus.REGISTERED}, RefreshVerdict.ROTATE),
        ({"status": VoterStatus.SUSPENDED}, RefreshVerdict.REFUSE),
        ({"status": VoterStatus.CLOSED}, RefreshVerdict.REFUSE),
        ({"ended": True}, RefreshVerdict.REFUSE),
        ({"ended": True, "used_at": NOW}, RefreshVerdict.REFUSE),
        ({"expires_at": NOW}, RefreshVerdict.REFUSE),
        ({"last_used_at": NOW - IDLE_LIFETIME}, RefreshVerdict.REFUSE),
        ({"last_used_at": NOW - IDLE_LIFETIME + MOMENT}, RefreshVerdict.ROTATE),
        ({"jkt": "other"}, RefreshVerdict.END_OTHER_KEY),
        ({"jkt": "other", "used_at": NOW, "seed": b"s"}, RefreshVerdict.END_OTHER_KEY),
        ({"used_at": NOW - REPEAT_GRACE + MOMENT, "seed": b"s"}, RefreshVerdict.REPEAT),
        ({"used_at": NOW - REPEAT_GRACE, "seed": b"s"}, RefreshVerdict.END_REUSED),
        ({"used_at": NOW - MOMENT, "seed": None}, RefreshVerdict.END_REUSED),
    ],
)
def test_what_becomes_of_a_refresh_token(fields: dict[str, Any], verdict: RefreshVerdict) -> None:
    assert judge_refresh(token(**fields), "k" * 43, NOW) is verdict


def test_a_successor_is_told_by_token_and_seed_together_alone() -> None:
    first, seed = new_refresh_token("eu"), new_seed()
    assert cell_of_refresh_token(first) == cell_of_refresh_token(successor(first, seed)) == "eu"
    assert successor(first, seed) == successor(first, seed)
    others = {successor(first, new_seed()), successor(new_refresh_token("eu"), seed), first}
    assert successor(first, seed) not in others
    assert refresh_token_hash(first) != refresh_token_hash(successor(first, seed))


@pytest.mark.parametrize("text", ["", "rt_eu_", "rt_EU_" + "a" * 43, "rt_eu_" + "a" * 44, "ss_eu_" + "a" * 43])
def test_what_is_no_refresh_token_names_no_cell(text: str) -> None:
    assert cell_of_refresh_token(text) is None


def test_a_revoked_session_is_remembered_for_as_long_as_a_token_of_it_could_be_taken() -> None:
    revoked = RevokedSessions()
    revoked.add(["a"], 0.0)
    revoked.add(["b"], 1.0)
    revoked.forget(REVOKED_FOR_S)
    assert ("a" in revoked, "b" in revoked) == (True, True)
    revoked.forget(REVOKED_FOR_S + 0.5)
    assert ("a" in revoked, "b" in revoked, len(revoked)) == (False, True, 1)
