"""Lets members of staff ask from pages that are not ours, which show no key of the browser, for minutes at a time."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from fastapi import Request, Response

from api.console.cookies import BesideCookie, Cookies
from api.console.visits import Visit
from api.http.access import Principal
from api.http.limits import FrameworkRequest, Limits
from domain.console import BESIDE_LIFETIME, ConsoleSession, ConsoleSessions, holds_beside
from domain.errors import DomainError, ErrorCode
from domain.ids import CONSOLE_SESSION_ID, cell_in
from domain.limits import STAFF, place_of
from domain.tokens import Role
from integrations.telemetry.metrics import AuthMetrics

_KIND: Final = "console_beside"  # of what is accepted

log = structlog.get_logger(__name__)


class DoorBeside:
    """Opened from one of our own pages, where the browser shows its key, and closed soon after that page is.

    What opens it is a cookie apart from the session's, which nobody is let in by here: a copy is good from the same
    network alone, and no longer than `BESIDE_LIFETIME`.
    """

    def __init__(
        self,
        cookies: Cookies,
        sessions_of: Callable[[str], ConsoleSessions],
        *,
        limits: Limits,
        metrics: AuthMetrics,
    ) -> None:
        """`sessions_of` raises DomainError `wrong_cell` for a cell that there is not."""
        self._cookies = cookies
        self._sessions_of = sessions_of
        self._limits = limits.subjects(STAFF)
        self._metrics = metrics

    async def open(self, request: Request, visit: Visit, answer: Response) -> None:
        """Have the browser of a visit let in for a while from now, with what it is answered.

        Raises DomainError `key_unavailable`.
        """
        given = BesideCookie(visit.session_id, visit.at, _network(request))
        await self._cookies.keep_beside(answer, given, BESIDE_LIFETIME)

    def require(self, *roles: Role) -> Callable[[Request], Awaitable[Principal]]:
        """Return what lets in staff with any of these roles, whose browser this was opened for.

        Browsers send the cookie along from pages of the same site; which of those may ask has been checked before. No
        session is kept open.

        It raises DomainError `unauthenticated`, `forbidden`, `rate_limited`, `directory_unavailable`,
        `key_unavailable`.
        """
        wanted = frozenset(roles)

        async def principal(request: Request) -> Principal:
            session = await self._let_in(request)
            self._limits.take(FrameworkRequest(request), session.staff_id)
            if not wanted & session.roles:
                raise DomainError(ErrorCode.FORBIDDEN, f"one of these roles is needed: {', '.join(sorted(wanted))}")
            return Principal(f"staff:{session.staff_id}", session.roles)

        return principal

    async def _let_in(self, request: Request) -> ConsoleSession:
        held = await self._cookies.beside(request)
        if held is None or "origin" not in request.headers:  # which every browser sends
            raise DomainError(ErrorCode.UNAUTHENTICATED)
        session = await self._sessions_of(cell_in(CONSOLE_SESSION_ID, held.session_id) or "").get(held.session_id)
        if session is None or not holds_beside(session, held.given_at):
            raise DomainError(ErrorCode.UNAUTHENTICATED)
        if not hmac.compare_digest(held.network, _network(request)):
            self._metrics.refused(ErrorCode.UNAUTHENTICATED)
            log.warning("console_network_differs", staff_id=session.staff_id)
            raise DomainError(ErrorCode.UNAUTHENTICATED)
        self._metrics.accepted(_KIND).inc()
        return session


def _network(request: Request) -> str:
    return place_of(FrameworkRequest(request).client).network.hex()
