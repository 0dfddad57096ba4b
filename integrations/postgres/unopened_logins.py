"""Ends the logins of a voter that have opened no session yet: by what they were proven counts no more."""

from domain.audit import AuditEntry, AuditKind
from domain.contracts.login import LoginOutcome
from integrations.postgres.audit_entries import Connection, append

# It locks the account: a session that is being opened is waited for, and whoever opens one later sees this.
_LOGINS_FROM = "UPDATE identity.voter SET logins_from = clock_timestamp() WHERE voter_id = $1"
_EXPIRE = """
UPDATE identity.login_attempt SET outcome = $2, ended_at = now()
WHERE voter_id = $1 AND outcome IS NULL AND at > now() - interval '1 day' RETURNING attempt_id
"""
_ACTOR = "process:auth"


async def end_unopened_logins(connection: Connection, voter_id: str) -> None:
    """End what waits for a further factor, and let what was proven until now open no session; in a transaction.

    Whoever ends sessions with it does so afterwards, and finds those that were opened in between.
    """
    await connection.execute(_LOGINS_FROM, voter_id)
    for attempt in await connection.fetch(_EXPIRE, voter_id, LoginOutcome.EXPIRED):
        await append(connection, _expired(attempt["attempt_id"]))


def _expired(attempt_id: str) -> AuditEntry:
    outcome = LoginOutcome.EXPIRED.lower()
    return AuditEntry(AuditKind.LOGIN_ENDED, _ACTOR, attempt_id, outcome=outcome, facts={"factor": ""})
