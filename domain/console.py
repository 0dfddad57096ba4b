"""Sessions of staff in the console: short, and in one browser.

A browser holds one cookie, which names a key of the browser where that has one: then each request shows it, and a copy
of the cookie is worth nothing. Besides, the cookie's content changes while it is used. The use of one that was replaced
before ends the session, since then two have it: whoever took a copy, and whoever it was taken from. Requests that a
browser had sent before it saw the new one come within `TURN_GRACE`.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from domain.tokens import Role

IDLE_LIFETIME: Final = timedelta(minutes=15)  # without a page that somebody asked for
SESSION_LIFETIME: Final = timedelta(hours=8)
TURN_AFTER: Final = timedelta(seconds=60)  # so long a copy of a cookie goes unnoticed at most, while its owner works
TURN_GRACE: Final = timedelta(seconds=10)
# Of the cookie that pages of others ask by, who show no key. The page that renews it may be hidden behind those: there
# browsers let a page ask once a minute
BESIDE_LIFETIME: Final = timedelta(minutes=2)
SIGN_IN_WITHIN: Final = timedelta(minutes=10)  # how long somebody may take at the identity provider


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """An open session as it stood at `seen_at`, by the clock that its other times are of.

    `turn` counts the cookies that it has had, from 1; `roles` are the roll's at that instant.
    """

    session_id: str
    staff_id: str
    roles: frozenset[Role]
    began_at: datetime
    turn: int
    turned_at: datetime
    seen_at: datetime
    form_key: bytes = field(repr=False)  # 32 bytes, which forms of this session are known by


class SessionKind(StrEnum):
    """Where a session is good: whoever can open those of one kind can open no others."""

    IDENTITY = "console"  # pages of services that are of identity
    SURVEYS = "console_surveys"


class CookieVerdict(StrEnum):
    """What to make of a cookie of an open session."""

    HOLDS = "holds"
    TURN = "turn"  # it is replaced now
    REPEAT = "repeat"  # it was a moment ago: the same successor again
    REUSED = "reused"  # somebody else has a copy


def judge_cookie(session: ConsoleSession, turn: int) -> CookieVerdict:
    """Return what to make of the cookie with this number.

    A clock that was set back since makes it no younger: else a copy would be good again for as long as that.
    """
    held_for = abs(session.seen_at - session.turned_at)
    if turn == session.turn:
        return CookieVerdict.TURN if held_for >= TURN_AFTER else CookieVerdict.HOLDS
    if turn == session.turn - 1 and held_for < TURN_GRACE:
        return CookieVerdict.REPEAT
    return CookieVerdict.REUSED


def holds_beside(session: ConsoleSession, given_at: datetime) -> bool:
    """Tell whether a cookie that was given to a session's browser at an instant is still good beside the console.

    A clock that was set back since makes it no younger, as above.
    """
    return abs(session.seen_at - given_at) < BESIDE_LIFETIME


class ConsoleSessions(Protocol):
    """The sessions of staff in one cell. Calls raise DomainError `directory_unavailable`."""

    async def open(
        self, session_id: str, staff_id: str, roles: frozenset[Role], service: str = "console"
    ) -> ConsoleSession:
        """Open a session, with its audit entry, which says that it is of `service`."""
        ...

    async def get(self, session_id: str) -> ConsoleSession | None:
        """Return a session that is open and of somebody who is still on the roll, or None."""
        ...

    async def turn(self, session: ConsoleSession) -> bool:
        """Replace the cookie and begin the time without use anew; False where another request has, or it has ended."""
        ...

    async def end(self, session_id: str) -> None:
        """End a session. Safe to repeat."""
        ...

    async def revoke(self, session: ConsoleSession, why: str) -> None:
        """End a session that is no longer its owner's alone, with its audit entry; `why` is a code. Safe to repeat."""
        ...

    async def refuse(self, attempt: str, staff_id: str, roles: frozenset[Role], why: str) -> None:
        """Write the audit entry of a sign-in of a member of staff that is refused; `attempt` tells it from others."""
        ...
