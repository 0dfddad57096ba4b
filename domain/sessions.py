"""Sessions of voters: a login on one client, its refresh tokens, and how it ends.

A session is bound to the client's key for its whole life. Its refresh token changes with every use, and the use of one
that was used before ends the session, since somebody else may have it. One repeat is no attack: a client that got no
answer asks again. Within `REPEAT_GRACE` and until the successor is used, the same token under the same key is answered
with the same successor. Nothing that is stored can tell that successor: it is an HMAC of a stored seed under the used
token, which only the client has.
"""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from domain.eligibility import VoterStatus
from domain.tokens import LEEWAY_S, LIFETIME_S, Assurance, RiskBand

# A voter comes back for a survey every few weeks, and every admission judges the risk anew.
SESSION_LIFETIME = timedelta(days=30)
IDLE_LIFETIME = timedelta(days=14)
REPEAT_GRACE = timedelta(seconds=10)
SESSIONS_MAX = 20  # of one voter at once; one more ends the one that was used longest ago
REVOKED_FOR_S = LIFETIME_S + LEEWAY_S  # as long as an access token of an ended session would be taken
MAY_LOG_IN = frozenset({VoterStatus.REGISTERED, VoterStatus.ACTIVE})

_REFRESH_TOKEN = re.compile(r"rt_(?P<cell>[a-z][a-z0-9]{0,15})_[A-Za-z0-9_-]{43}")
_SEED_BYTES = 32


class LoginMethod(StrEnum):
    """What a session was opened with."""

    PASSWORD = "password"  # noqa: S105 - the name of a method
    MAIL_CODE = "mail_code"
    PASSKEY = "passkey"
    OIDC = "oidc"


class EndReason(StrEnum):
    """Why a session ended."""

    LOGGED_OUT = "logged_out"
    LOGGED_OUT_EVERYWHERE = "logged_out_everywhere"
    REVOKED = "revoked"  # by the voter, from another session
    TOO_MANY = "too_many"
    TOKEN_REUSED = "token_reused"  # noqa: S105 - a reason
    TOKEN_OF_OTHER_KEY = "token_of_other_key"  # noqa: S105 - a reason
    PROVIDER_LOGOUT = "provider_logout"
    CREDENTIALS_CHANGED = "credentials_changed"
    RECOVERED = "recovered"
    ACCOUNT_SUSPENDED = "account_suspended"
    ACCOUNT_CLOSED = "account_closed"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class NewSession:
    """A login that was permitted; `jkt`, `device` and `network` as `VoterClaims` says.

    `provider` is the identity provider's name in the settings, `provider_sid` its session, where it names one.
    `logged_in_at` is when it was proven at the latest: what has changed since about how the account is logged in to
    makes it worthless.
    """

    session_id: str
    voter_id: str
    jkt: str
    method: LoginMethod
    assurance: Assurance
    risk: RiskBand
    device: str = ""
    network: str = ""
    provider: str = ""
    provider_sid: str = field(default="", repr=False)
    logged_in_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """An open session with what its access tokens say; `region` is the account's now."""

    session_id: str
    voter_id: str
    jkt: str
    method: LoginMethod
    device: str
    network: str
    assurance: Assurance
    risk: RiskBand
    region: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """A session as it stands once it was opened, None where it has ended since; and those that ended for it."""

    session: Session | None
    ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a use of a refresh token came to: the session goes on, or these sessions have ended now."""

    session: Session | None
    refresh_token: str = field(default="", repr=False)
    ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UsedToken:
    """A refresh token as it was found: `seed` tells its successor, until that was used."""

    jkt: str
    status: VoterStatus
    expires_at: datetime
    last_used_at: datetime
    ended: bool
    used_at: datetime | None
    seed: bytes | None


class RefreshVerdict(StrEnum):
    """What to do with a refresh token."""

    # Words, not secrets
    ROTATE = "rotate"
    REPEAT = "repeat"  # the same successor again
    REFUSE = "refuse"
    END_REUSED = "end_reused"
    END_OTHER_KEY = "end_other_key"


def judge_refresh(token: UsedToken, jkt: str, now: datetime) -> RefreshVerdict:
    """Return what to do with a token that a client shows with a proof of the key `jkt`.

    A token under another key has been stolen, for its client's key never changes: that ends the session as well.
    """
    if token.ended or now >= token.expires_at or now >= token.last_used_at + IDLE_LIFETIME:
        return RefreshVerdict.REFUSE
    if not hmac.compare_digest(token.jkt, jkt):
        return RefreshVerdict.END_OTHER_KEY
    if token.used_at is not None:
        is_repeat = token.seed is not None and now < token.used_at + REPEAT_GRACE
        return RefreshVerdict.REPEAT if is_repeat else RefreshVerdict.END_REUSED
    return RefreshVerdict.ROTATE if token.status in MAY_LOG_IN else RefreshVerdict.REFUSE


def new_refresh_token(cell: str) -> str:
    """Return a first refresh token, 256 random bits behind its cell: `rt_eu_...`."""
    return _token(cell, secrets.token_bytes(32))


def new_seed() -> bytes:
    """Return 32 random bytes for the next `successor`."""
    return secrets.token_bytes(_SEED_BYTES)


def successor(token: str, seed: bytes) -> str:
    """Return the refresh token that follows `token`: 256 bits that nobody can tell without both."""
    cell = cell_of_refresh_token(token)
    assert cell is not None
    return _token(cell, hmac.digest(token.encode(), b"comitia/refresh-token/1" + seed, hashlib.sha256))


def cell_of_refresh_token(token: str) -> str | None:
    """Return the cell that a refresh token names, or None where it is no refresh token."""
    found = _REFRESH_TOKEN.fullmatch(token)
    return found["cell"] if found else None


def refresh_token_hash(token: str) -> bytes:
    """Return what is kept of a token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()


def _token(cell: str, content: bytes) -> str:
    return f"rt_{cell}_{urlsafe_b64encode(content).decode('ascii').rstrip('=')}"


class Sessions(Protocol):
    """The sessions of one cell. All calls raise DomainError `directory_unavailable`.

    Whatever returns ids of ended sessions has ended them durably; whoever called announces them.
    """

    async def open(self, session: NewSession, refresh_token: str) -> Opened:
        """Open a session with its first refresh token; others end for it where there are more than `SESSIONS_MAX`.

        Safe to repeat with the same id and token.

        Raises:
            DomainError: `voter_not_active`; the account is no more, or may not log in. `login_failed`: since the login
                the account was recovered, or its credentials have changed.
        """
        ...

    async def get(self, session_id: str) -> Session | None:
        """Return an open session, or None."""
        ...

    async def refresh(self, refresh_token: str, jkt: str) -> Refreshed:
        """Use a refresh token with the key `jkt`; at most one use wins, whoever asks at once.

        `session` is None where the token is not valid, for whatever reason.
        """
        ...

    async def of_voter(self, voter_id: str) -> Sequence[Session]:
        """Return a voter's open sessions, the one used last first."""
        ...

    async def end(self, voter_id: str, session_id: str, reason: EndReason) -> bool:
        """End one session of this voter; False where there is no such open session. Safe to repeat."""
        ...

    async def end_all(self, voter_id: str, reason: EndReason, *, but: str = "") -> tuple[str, ...]:
        """End every session of a voter except `but`; return the ids of those that were open. Safe to repeat.

        Logins that have opened none yet open none any more: who waits for a further factor logs in anew.
        """
        ...

    async def end_at_provider(
        self, provider: str, jti: str, *, sid: str = "", voter_id: str = ""
    ) -> tuple[str, ...] | None:
        """Obey a logout token `jti`: end the sessions that came from the provider's session `sid`, or for a voter.

        Returns the ids of those that were open, or None where this token was obeyed here before.
        """
        ...


class RevokedSessions:
    """The sessions whose access tokens are refused though they have not expired: in memory, kept while they matter."""

    def __init__(self) -> None:
        self._ended: dict[str, float] = {}

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._ended

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, session_ids: Iterable[str], now: float) -> None:
        """Refuse these from now on (seconds since 1970)."""
        self._ended.update(dict.fromkeys(session_ids, now))

    def forget(self, now: float) -> None:
        """Forget the sessions of which no token can be valid any more."""
        for session_id in [known for known, ended in self._ended.items() if ended < now - REVOKED_FOR_S]:
            del self._ended[session_id]
