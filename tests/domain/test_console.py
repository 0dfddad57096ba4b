"""Which cookie of a session is good."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.console import TURN_AFTER, TURN_GRACE, ConsoleSession, CookieVerdict, judge_cookie

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SOON = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("turn", "held_for", "verdict"),
    [
        (5, timedelta(0), CookieVerdict.HOLDS),
        (5, TURN_AFTER - SOON, CookieVerdict.HOLDS),
        (5, TURN_AFTER, CookieVerdict.TURN),
        (4, timedelta(0), CookieVerdict.REPEAT),
        (4, TURN_GRACE - SOON, CookieVerdict.REPEAT),
        (4, TURN_GRACE, CookieVerdict.REUSED),
        (4, -SOON, CookieVerdict.REPEAT),
        (4, -TURN_GRACE, CookieVerdict.REUSED),
        (5, -TURN_AFTER, CookieVerdict.TURN),
        (3, timedelta(0), CookieVerdict.REUSED),
        (6, timedelta(0), CookieVerdict.REUSED),
    ],
)
def test_a_cookie_is_good_until_it_is_replaced(turn: int, held_for: timedelta, verdict: CookieVerdict) -> None:
    session = ConsoleSession("cs", "u", frozenset(), NOW, 5, NOW, NOW + held_for, bytes(32))
    assert judge_cookie(session, turn) is verdict
