"""What changes an account for good is done by who has just logged in, and not by who has found an open session."""

from datetime import UTC, datetime

from api.auth.cells import AuthCell, AuthCells
from domain.account_ends import LOGGED_IN_WITHIN
from domain.errors import DomainError, ErrorCode
from domain.ids import cell_of_voter
from domain.tokens import VoterClaims


async def recent_session(cells: AuthCells, claims: VoterClaims) -> AuthCell:
    """Return the voter's cell, where the token is of an open session that began within `LOGGED_IN_WITHIN`.

    The database is asked, so a session that ended a moment ago is open nowhere.

    Raises:
        DomainError: `step_up_required`; `wrong_cell`, `cell_unavailable`, `directory_unavailable`.
    """
    cell = cells.of(cell_of_voter(claims.sub))
    session = await cell.sessions.get(claims.sid)
    now = datetime.fromtimestamp(cells.now(), UTC)
    if (
        session is None
        or (session.voter_id, session.jkt) != (claims.sub, claims.jkt)
        or now - session.created_at > LOGGED_IN_WITHIN
    ):
        minutes = LOGGED_IN_WITHIN.seconds // 60
        raise DomainError(ErrorCode.STEP_UP_REQUIRED, f"this needs a login of the last {minutes} minutes")
    return cell
