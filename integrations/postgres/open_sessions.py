"""Refuses a change of an account whose session has ended while the change was on its way."""

from domain.errors import DomainError, ErrorCode
from integrations.postgres.audit_entries import Connection

_LOCK = "SELECT FROM identity.voter WHERE voter_id = $1 FOR UPDATE"
# A statement of its own: it sees what whoever held the account has left.
_IS_OPEN = "SELECT EXISTS (SELECT FROM identity.session WHERE session_id = $1 AND voter_id = $2 AND ended_at IS NULL)"


async def require_open(connection: Connection, voter_id: str, session_id: str) -> None:
    """Lock the account until the transaction ends, and look whether a session of it has not ended.

    Without a session nothing is looked at: who changes the account then is no client.

    Raises:
        DomainError: `step_up_required`.
    """
    if not session_id:
        return
    await connection.execute(_LOCK, voter_id)
    if not await connection.fetchval(_IS_OPEN, session_id, voter_id):
        raise DomainError(ErrorCode.STEP_UP_REQUIRED, "the session has ended meanwhile")
