"""Sessions of staff in the console, as logins under way of a kind of their own in `identity.login_transaction`.

They are swept with those, an hour after they have ended by themselves.
"""

import hashlib
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import asyncpg

from domain.console import IDLE_LIFETIME, SESSION_LIFETIME, ConsoleSession, SessionKind
from domain.errors import ErrorCode
from domain.staff_sign_ins import refused, signed_in
from domain.tokens import Role
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_SERVICE: Final = "console"
# That of surveys by a view of its own, which is all that its role reaches
_RELATIONS: Final = {
    SessionKind.IDENTITY: "identity.login_transaction",
    SessionKind.SURVEYS: "identity.surveys_session",
}
_NOW = "SELECT date_trunc('second', clock_timestamp())"
_OPEN = """
INSERT INTO {sessions} (state_hash, kind, subject, secret, expires_at)
VALUES ($1, $2, $3, $4, $5)
"""
_GET = """
SELECT subject, secret, roles, clock_timestamp() AS seen_at FROM {sessions}
JOIN identity.staff ON staff_id = split_part(subject, ' ', 1)
WHERE state_hash = $1 AND kind = $2 AND expires_at > now() AND disabled_at IS NULL
"""
# Of two requests at once the second finds another subject
_TURN = """
UPDATE {sessions} SET subject = $4, expires_at = $5
WHERE state_hash = $1 AND kind = $2 AND subject = $3 AND expires_at > now()
RETURNING true
"""
_END = "DELETE FROM {sessions} WHERE state_hash = $1 AND kind = $2 RETURNING true"


class PostgresConsoleSessions:
    """Implements `ConsoleSessions` of one kind; made for the role that reaches those in the cell's database."""

    def __init__(self, pool: asyncpg.Pool, kind: SessionKind = SessionKind.IDENTITY) -> None:
        self._pool = pool
        self._kind = kind.value
        relation = _RELATIONS[kind]
        self._open, self._get, self._turn, self._end = (
            statement.format(sessions=relation) for statement in (_OPEN, _GET, _TURN, _END)
        )

    async def open(
        self, session_id: str, staff_id: str, roles: frozenset[Role], service: str = _SERVICE
    ) -> ConsoleSession:
        """Open a session, with its audit entry."""
        form_key = secrets.token_bytes(32)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                now: datetime = await connection.fetchval(_NOW)
                session = ConsoleSession(session_id, staff_id, roles, now, 1, now, now, form_key)
                await connection.execute(
                    self._open, _hash(session_id), self._kind, _subject(session), form_key, now + IDLE_LIFETIME
                )
                await append(connection, signed_in(staff_id, session_id, roles, service))
        return session

    async def get(self, session_id: str) -> ConsoleSession | None:
        """Return a session that is open and of somebody who is still on the roll, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(self._get, _hash(session_id), self._kind)
        if row is None:
            return None
        staff_id, began, turn, turned = row["subject"].split(" ")
        roles = frozenset(Role(role) for role in row["roles"])
        times = _at(began), int(turn), _at(turned), row["seen_at"]
        return ConsoleSession(session_id, staff_id, roles, *times, row["secret"])

    async def turn(self, session: ConsoleSession) -> bool:
        """Replace the cookie; False where another request has, or the session has ended."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                now: datetime = await connection.fetchval(_NOW)
                expires_at = min(now + IDLE_LIFETIME, session.began_at + SESSION_LIFETIME)
                subjects = _subject(session), _subject(replace(session, turn=session.turn + 1, turned_at=now))
                found = await connection.fetchval(
                    self._turn, _hash(session.session_id), self._kind, *subjects, expires_at
                )
        return found is True

    async def end(self, session_id: str) -> None:
        """End a session."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(self._end, _hash(session_id), self._kind)

    async def revoke(self, session: ConsoleSession, why: str) -> None:
        """End a session that is no longer its owner's alone, with its audit entry."""
        entry = refused(session.staff_id, session.session_id, session.roles, _SERVICE, why)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                if await connection.fetchval(self._end, _hash(session.session_id), self._kind):
                    await append(connection, entry)

    async def refuse(self, attempt: str, staff_id: str, roles: frozenset[Role], why: str) -> None:
        """Write the audit entry of a sign-in that is refused."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await append(connection, refused(staff_id, attempt, roles, _SERVICE, why))


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()


def _subject(session: ConsoleSession) -> str:
    began, turned = (int(moment.timestamp()) for moment in (session.began_at, session.turned_at))
    return f"{session.staff_id} {began} {session.turn} {turned}"


def _at(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
