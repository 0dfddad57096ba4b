"""Passes of staff: with one, a program acts as somebody who is signed in at the console, for a quarter of an hour.

Somebody asks for a pass on a page, for a key that the program has made, and carries it there. Whoever else has seen it
has nothing, since each request proves the key (DPoP). A pass says nothing by itself: it leads to a session of its own,
so that the roles are the roll's at each request, and whoever is taken off the roll is out at once.
"""

from collections.abc import Callable
from typing import Final

from domain.console import IDLE_LIFETIME, ConsoleSessions, SessionKind
from domain.errors import DomainError, ErrorCode
from domain.ids import CONSOLE_SESSION_ID, STAFF_ID, cell_in, new_console_session_id
from domain.tokens import STAFF_ACCESS, Confirmation, Role, StaffClaims
from integrations.keys.cookies import CookieSeal

_PREFIX: Final = "pass-"  # no access token begins so: those begin with a header, `eyJ`
_SERVICE: Final = "program"  # what their sessions are said to be of


class StaffPasses:
    """Issues and opens passes, which are good at services whose consoles have sessions of one kind.

    `sessions_of` raises DomainError `wrong_cell` for a cell that there is not.
    """

    def __init__(self, seal: CookieSeal, sessions_of: Callable[[str], ConsoleSessions], kind: SessionKind) -> None:
        self._seal = seal
        self._sessions_of = sessions_of
        self._use = f"pass of {kind}"

    async def issue(self, staff_id: str, roles: frozenset[Role], jkt: str) -> str:
        """Return a pass for the holder of the key with this thumbprint, at most 250 characters.

        Raises:
            DomainError: `directory_unavailable`, `key_unavailable`.
        """
        cell = cell_in(STAFF_ID, staff_id) or ""
        session_id = new_console_session_id(cell)
        await self._sessions_of(cell).open(session_id, staff_id, roles, _SERVICE)
        return _PREFIX + await self._seal.seal(self._use, f"{session_id} {jkt}")

    def is_one(self, token: bytes) -> bool:
        """Tell whether a token looks like a pass, and like no other."""
        return token.startswith(_PREFIX.encode())

    async def claims(self, token: bytes) -> StaffClaims:
        """Return what a pass stands for now, as a token would say it; its binding is not checked yet.

        Raises:
            DomainError: `token_invalid`; `token_expired` where its session has ended, by time or because its owner is
                not on the roll any more; `directory_unavailable`, `key_unavailable`.
        """
        content = await self._seal.open(self._use, token.decode("latin-1").removeprefix(_PREFIX))
        if content is None:
            raise DomainError(ErrorCode.TOKEN_INVALID)
        session_id, _, jkt = content.partition(" ")
        session = await self._sessions_of(cell_in(CONSOLE_SESSION_ID, session_id) or "").get(session_id)
        if session is None:
            raise DomainError(ErrorCode.TOKEN_EXPIRED)
        began_at = int(session.began_at.timestamp())
        return StaffClaims(
            iss=STAFF_ACCESS.issuer,
            aud=STAFF_ACCESS.audience,
            scope=STAFF_ACCESS.scope,
            iat=began_at,
            exp=began_at + int(IDLE_LIFETIME.total_seconds()),
            cnf=Confirmation(jkt),
            sub=session.staff_id,
            jti=session_id,
            sid=session_id,
            roles=tuple(sorted(session.roles)),
        )
