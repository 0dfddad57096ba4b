"""Opening, refreshing and ending sessions: in the database of the voter's cell, then told to every process."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from api.auth.cells import AuthCells
from domain.errors import DomainError, ErrorCode
from domain.ids import SESSION_ID, cell_in, cell_of_voter
from domain.sessions import EndReason, NewSession, Session, cell_of_refresh_token, new_refresh_token
from domain.tokens import LIFETIME_S
from integrations.keys.access_tokens import VoterTokens


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client goes on with; the access token is valid for `expires_in_s`."""

    session_id: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_s: int = LIFETIME_S


class SessionDesk:
    """Sessions of every cell. All calls raise DomainError `wrong_cell`, `cell_unavailable`, `directory_unavailable`."""

    def __init__(self, cells: AuthCells, tokens: VoterTokens) -> None:
        self._cells = cells
        self._tokens = tokens

    async def open(self, login: NewSession) -> Tokens:
        """Open the session of a login that was permitted; `login.session_id` makes it once, but for its tokens.

        Raises:
            DomainError: `voter_not_active`, `login_failed`.
        """
        name = cell_of_voter(login.voter_id)
        cell = self._cells.of(name)
        refresh_token = new_refresh_token(cell.name)
        opened = await cell.sessions.open(login, refresh_token)
        if opened.ended:
            await self.tell(name, opened.ended)
        if opened.session is None:
            raise DomainError(ErrorCode.SESSION_REVOKED)
        return Tokens(opened.session.session_id, self._tokens.of_session(opened.session), refresh_token)

    async def refresh(self, refresh_token: str, jkt: str) -> Tokens:
        """Use a refresh token with the key of a thumbprint; `Sessions.refresh` says what a repeat comes to.

        Raises:
            DomainError: `refresh_token_invalid`, for every reason the same.
        """
        name = cell_of_refresh_token(refresh_token)
        if name is None:
            raise DomainError(ErrorCode.REFRESH_TOKEN_INVALID)
        cell = self._cells.of(name)
        refreshed = await cell.sessions.refresh(refresh_token, jkt)
        if refreshed.ended:
            await self.tell(name, refreshed.ended)
        if refreshed.session is None:
            raise DomainError(ErrorCode.REFRESH_TOKEN_INVALID)
        session = refreshed.session
        return Tokens(session.session_id, self._tokens.of_session(session), refreshed.refresh_token)

    async def of_voter(self, voter_id: str) -> Sequence[Session]:
        """Return a voter's open sessions, the one used last first."""
        return await self._cells.of(cell_of_voter(voter_id)).sessions.of_voter(voter_id)

    async def end(self, voter_id: str, session_id: str, reason: EndReason) -> bool:
        """End one session of a voter; False where the voter has no such open session. Safe to repeat."""
        name = cell_of_voter(voter_id)
        if cell_in(SESSION_ID, session_id) != name:
            return False
        ended = await self._cells.of(name).sessions.end(voter_id, session_id, reason)
        if ended:
            await self.tell(name, (session_id,))
        return ended

    async def end_all(self, voter_id: str, reason: EndReason, *, but: str = "") -> tuple[str, ...]:
        """End every session of a voter except `but`; return the ids of those that were open. Safe to repeat."""
        name = cell_of_voter(voter_id)
        ended = await self._cells.of(name).sessions.end_all(voter_id, reason, but=but)
        await self.tell(name, ended)
        return ended

    async def end_at_provider(self, cell: str, provider: str, jti: str, *, sid: str = "", voter_id: str = "") -> bool:
        """Obey a logout token in one cell; False where it was obeyed there before."""
        ended = await self._cells.of(cell).sessions.end_at_provider(provider, jti, sid=sid, voter_id=voter_id)
        if ended is None:
            return False
        await self.tell(cell, ended)
        return True

    async def tell(self, cell: str | None, ended: Sequence[str]) -> None:
        """Tell every process of sessions that have ended durably in a cell."""
        self._cells.revoked.add(ended, self._cells.now())  # here at once, elsewhere as soon as it is heard
        await self._cells.of(cell).channel.announce(ended)
