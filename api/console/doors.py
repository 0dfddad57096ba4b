"""Lets members of staff into pages by the cookie of their session, and believes forms of those very pages alone."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog
from fastapi import Request

from api.console.browser_keys import BrowserKeys
from api.console.cookies import Cookies, HeldCookie
from api.console.visits import NotSignedInError, Site, Visit, form_of
from api.http.access import Principal
from api.http.limits import FrameworkRequest, Limits
from domain.console import ConsoleSession, ConsoleSessions, CookieVerdict, judge_cookie
from domain.errors import DomainError, ErrorCode
from domain.ids import CONSOLE_SESSION_ID, cell_in
from domain.limits import STAFF
from domain.tokens import Role
from integrations.telemetry.metrics import AuthMetrics

_FORM: Final = b"comitia/console-form/1"
_COPIED: Final = "cookie_reused"
_READS: Final = frozenset({"GET", "HEAD"})

log = structlog.get_logger(__name__)


class Door:
    """Makes the dependencies of pages; the roles are those that the roll has at each request."""

    def __init__(
        self,
        site: Site,
        cookies: Cookies,
        keys: BrowserKeys,
        sessions_of: Callable[[str], ConsoleSessions],
        *,
        limits: Limits,
        metrics: AuthMetrics,
    ) -> None:
        """`sessions_of` raises DomainError `wrong_cell` for a cell that there is not."""
        self._origin = site.origin
        self._cookies = cookies
        self._keys = keys
        self._sessions_of = sessions_of
        self._limits = limits.subjects(STAFF)
        self._metrics = metrics

    def require(self, *roles: Role, watches: bool = False) -> Callable[[Request], Awaitable[Visit]]:
        """Return a dependency that lets in staff with any of these roles, or with any at all where none are named.

        A page that asks by itself `watches`: it keeps no session open.

        It raises NotSignedInError and DomainError `forbidden`, `rate_limited`, `directory_unavailable`,
        `key_unavailable`; of forms also `malformed_request`.
        """
        wanted = frozenset(roles)

        async def visit(request: Request) -> Visit:
            check_sender(request, self._origin)
            held = await self._held(request)
            await self._keys.require(request, held)
            session = await self._session(request, held, watches=watches)
            self._limits.take(FrameworkRequest(request), session.staff_id)
            token = form_token(session.form_key)
            principal = Principal(f"staff:{session.staff_id}", session.roles)
            found = Visit(principal, session.session_id, session.seen_at, token)
            request.state.visit = found  # of whom a refusal is a page as well
            if wanted and not wanted & session.roles:
                raise DomainError(ErrorCode.FORBIDDEN, f"one of these roles is needed: {', '.join(sorted(wanted))}")
            if request.method in _READS:
                return found
            form = form_of(await request.body())
            if not hmac.compare_digest(form.pop("token", "").encode(), token.encode()):
                raise DomainError(ErrorCode.FORBIDDEN, "not a form of this session: open the page again")
            return replace(found, form=form)

        return visit

    async def leave(self, visit: Visit) -> None:
        """End a session. Raises DomainError `directory_unavailable`."""
        await self._sessions_of(cell_in(CONSOLE_SESSION_ID, visit.session_id) or "").end(visit.session_id)

    async def _held(self, request: Request) -> HeldCookie:
        held = await self._cookies.session(request)
        if held is None:
            raise NotSignedInError
        return held

    async def _session(self, request: Request, held: HeldCookie, *, watches: bool) -> ConsoleSession:
        sessions = self._sessions_of(cell_in(CONSOLE_SESSION_ID, held.session_id) or "")
        session = await sessions.get(held.session_id)
        if session is None:
            raise NotSignedInError(has_ended=True)
        verdict = judge_cookie(session, held.turn)
        if verdict is CookieVerdict.REUSED:
            await sessions.revoke(session, _COPIED)
            self._metrics.refused(ErrorCode.SESSION_REVOKED)
            log.warning("console_cookie_reused", staff_id=session.staff_id)
            raise NotSignedInError(has_ended=True)
        self._metrics.accepted("console").inc()
        if verdict is CookieVerdict.TURN and not watches:
            turn = held.turn + 1 if await sessions.turn(session) else await _turned(sessions, held.session_id)
            request.state.new_cookie = await self._cookies.of_session(held.turned(turn))
        elif verdict is CookieVerdict.REPEAT:
            request.state.new_cookie = await self._cookies.of_session(held.turned(session.turn))
        return session


async def _turned(sessions: ConsoleSessions, session_id: str) -> int:
    """Return the number of the cookie that another request was given meanwhile."""
    session = await sessions.get(session_id)
    if session is None:
        raise NotSignedInError(has_ended=True)
    return session.turn


def check_sender(request: Request, origin: str) -> None:
    """Refuse what another site has a browser send. Raises DomainError `forbidden`.

    Every browser of these years says of a form where it comes from, in `Origin` or `Sec-Fetch-Site`: whoever says
    neither is none.
    """
    site, sent_from = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if request.method in _READS:
        if site == "cross-site" and request.headers.get("sec-fetch-mode") != "navigate":
            raise DomainError(ErrorCode.FORBIDDEN, "asked for by another site")
        return
    is_ours = site in {None, "same-origin"} and sent_from in {None, origin} and (site or sent_from)
    if not is_ours:
        raise DomainError(ErrorCode.FORBIDDEN, "sent by another site")


def form_token(form_key: bytes) -> str:
    """Return what the forms of a session carry, 43 characters."""
    return urlsafe_b64encode(hmac.digest(form_key, _FORM, "sha256")).decode("ascii").rstrip("=")
