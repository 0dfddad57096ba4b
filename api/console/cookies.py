"""The cookies of the console: of a session, of a sign-in that is under way, and of what pages beside it may ask.

All are sealed, unreadable for scripts, and of this host alone. They go with requests that begin on pages of our own
site; that of a sign-in also comes back with whoever the identity provider sends back.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from fastapi import Request, Response

from api.console.visits import Site
from domain.console import SIGN_IN_WITHIN, SessionKind
from integrations.keys.cookies import CookieSeal

_SESSION: Final = "comitia-staff"
_SIGN_IN: Final = "comitia-sign-in"
_BESIDE: Final = "comitia-beside"
_SAME_SITE: Final[dict[str, Literal["strict", "lax"]]] = {_SESSION: "strict", _SIGN_IN: "lax", _BESIDE: "strict"}
_SUFFIXES: Final = {SessionKind.IDENTITY: "", SessionKind.SURVEYS: "-surveys"}


@dataclass(frozen=True, slots=True)
class HeldCookie:
    """What the cookie of a session says: which of the session's it is, from 1, and what is to be shown with it.

    `key` is the thumbprint of a key that the browser holds, or empty where it has none.
    """

    session_id: str
    turn: int
    key: str = field(default="", repr=False)

    def turned(self, turn: int) -> "HeldCookie":
        """Return the cookie with this number of the same session and key."""
        return replace(self, turn=turn)


@dataclass(frozen=True, slots=True)
class BesideCookie:
    """What the cookie for pages beside the console says: whose, given when by the sessions' clock, to which network.

    The network is the one of the browser's address (`domain.limits.Place`), as hex.
    """

    session_id: str
    given_at: datetime
    network: str


class Cookies:
    """Sets and reads them. Calls raise DomainError `key_unavailable`.

    Over http, which production refuses, a browser takes no `__Host-` and no `Secure`.
    """

    def __init__(self, site: Site, seal: CookieSeal) -> None:
        self._is_secure = site.is_secure
        self._suffix = _SUFFIXES[site.sessions]
        self._seal = seal

    async def session(self, request: Request) -> HeldCookie | None:
        """Return what the cookie of a request says; None without a good one."""
        content = await self._read(request, _SESSION)
        session_id, turn, key = [*(content or "").split(" "), "", ""][:3]
        return HeldCookie(session_id, int(turn), key) if turn.isascii() and turn.isdigit() else None

    async def of_session(self, held: HeldCookie) -> str:
        """Return the cookie of a session, to be set."""
        said = f"{held.session_id} {held.turn} {held.key}".rstrip()
        return await self._seal.seal(self._use(_SESSION), said)

    def set_session(self, answer: Response, cookie: str) -> None:
        """Have a browser keep the cookie of a session until it is closed."""
        self._set(answer, _SESSION, cookie, None)

    def drop_session(self, answer: Response) -> None:
        """Have a browser forget it."""
        self._set(answer, _SESSION, "", 0)

    async def beside(self, request: Request) -> BesideCookie | None:
        """Return what the cookie for pages beside the console says; None without a good one."""
        content = await self._read(request, _BESIDE)
        if content is None:
            return None
        session_id, given_at, network = content.split(" ")
        return BesideCookie(session_id, datetime.fromisoformat(given_at), network)

    async def keep_beside(self, answer: Response, given: BesideCookie, lifetime: timedelta) -> None:
        """Have a browser keep it for so long; who reads it has to look at the time all the same."""
        said = f"{given.session_id} {given.given_at.isoformat()} {given.network}"
        sealed = await self._seal.seal(self._use(_BESIDE), said)
        self._set(answer, _BESIDE, sealed, int(lifetime.total_seconds()))

    async def sign_in(self, request: Request) -> str | None:
        """Return what was kept of a sign-in, or None."""
        return await self._read(request, _SIGN_IN)

    async def keep_sign_in(self, answer: Response, content: str) -> None:
        """Have a browser keep a sign-in that is under way."""
        sealed = await self._seal.seal(self._use(_SIGN_IN), content)
        self._set(answer, _SIGN_IN, sealed, int(SIGN_IN_WITHIN.total_seconds()))

    def drop_sign_in(self, answer: Response) -> None:
        """Have a browser forget it."""
        self._set(answer, _SIGN_IN, "", 0)

    async def _read(self, request: Request, use: str) -> str | None:
        cookie = request.cookies.get(self._name(use))
        return None if cookie is None else await self._seal.open(self._use(use), cookie)

    def _name(self, use: str) -> str:
        return f"__Host-{self._use(use)}" if self._is_secure else self._use(use)

    def _use(self, use: str) -> str:
        return f"{use}{self._suffix}"

    def _set(self, answer: Response, use: str, value: str, max_age_s: int | None) -> None:
        answer.set_cookie(
            self._name(use),
            value,
            max_age=max_age_s,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite=_SAME_SITE[use],
        )
