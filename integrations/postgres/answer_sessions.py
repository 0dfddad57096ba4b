"""Answer sessions of one cell: step-by-step ballots that only the holder of the session's id can read."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from secrets import token_bytes, token_urlsafe

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from domain.answer_sessions import Choice, ballot_of
from domain.ballots import BallotRules
from domain.errors import DomainError, ErrorCode
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import ledger_failures

SESSIONS_MAX = 5  # of one voter in one survey, open, frozen or finished; the finished one stays, the oldest make room
KEPT_AFTER_END = timedelta(hours=1)  # longer than a voting token lasts: nobody can ask about a session then
_PURGED_AT_ONCE = 500
_SECRET_BYTES = 32
_KEY_BYTES = 32
_NONCE_BYTES = 12
_STATE_BYTES = 16_000  # padded, so that its length tells nothing

_INSERT = """
INSERT INTO voting.answer_session (session_hash, survey_id, nullifier, state) VALUES ($1, $2, $3, $4)
RETURNING initialized_at
"""
_MAKE_ROOM = """
DELETE FROM voting.answer_session WHERE session_hash IN (
    SELECT session_hash FROM voting.answer_session
    WHERE survey_id = $1 AND nullifier = $2
    ORDER BY finished_at IS NULL, initialized_at DESC OFFSET $3
)
"""
_LOCK = """
SELECT state, initialized_at, finishing_at, finished_at FROM voting.answer_session
WHERE session_hash = $1 AND survey_id = $2 AND nullifier = $3 FOR UPDATE
"""
_LOOK = """
SELECT initialized_at, finished_at FROM voting.answer_session
WHERE session_hash = $1 AND survey_id = $2 AND nullifier = $3
"""
_UPDATE = "UPDATE voting.answer_session SET state = $2 WHERE session_hash = $1"
_FREEZE = """
UPDATE voting.answer_session SET finishing_at = clock_timestamp() WHERE session_hash = $1 RETURNING finishing_at
"""
_THAW = """
UPDATE voting.answer_session SET finishing_at = NULL
WHERE session_hash = $1 AND finishing_at = $2 AND finished_at IS NULL
"""
_REMOVE = "DELETE FROM voting.answer_session WHERE session_hash = $1"
_PURGE = """
DELETE FROM voting.answer_session WHERE session_hash IN (
    SELECT past.session_hash FROM voting.survey CROSS JOIN LATERAL (
        SELECT session_hash FROM voting.answer_session WHERE answer_session.survey_id = survey.survey_id LIMIT $2
    ) AS past WHERE survey.finish_at < now() - $1::interval LIMIT $2
)
RETURNING 1
"""
_FINISH = """
UPDATE voting.answer_session SET finished_at = coalesce(finished_at, now()), state = ''
WHERE session_hash = $1 RETURNING finished_at
"""


@dataclass(frozen=True, slots=True)
class AnswerSession:
    """A session as its voter sees it; `session_id` is the secret that opens it.

    `frozen_at` is set where the call that returned it has frozen an open session: what `thaw` takes back.
    """

    session_id: str
    survey_id: str
    initialized_at: datetime
    finished_at: datetime | None
    choices: tuple[Choice, ...]
    frozen_at: datetime | None = None

    def finished(self, at: datetime) -> "AnswerSession":
        """Return the same session as finished."""
        return replace(self, finished_at=at)


class AnswerSessions:
    """Keeps open sessions encrypted under a key inside their id; of the id only a hash is stored."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def create(self, survey_id: str, nullifier: bytes, choices: Sequence[Choice]) -> AnswerSession:
        """Open a session with its first choices.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        session_id = token_urlsafe(_SECRET_BYTES)
        with ledger_failures():
            async with self._pool.acquire() as connection, connection.transaction():
                at = await connection.fetchval(
                    _INSERT, _hash(session_id), survey_id, nullifier, _encrypt(session_id, choices)
                )
                await connection.execute(_MAKE_ROOM, survey_id, nullifier, SESSIONS_MAX)
        return AnswerSession(session_id, survey_id, at, None, tuple(choices))

    async def change(
        self,
        session_id: str,
        survey_id: str,
        nullifier: bytes,
        change: Callable[[tuple[Choice, ...]], tuple[Choice, ...]],
    ) -> AnswerSession:
        """Apply a change to the choices of an open session, under its lock; what `change` raises undoes it.

        Raises:
            DomainError: `answer_session_not_found`, `answer_session_finished`, `ledger_unavailable`.
        """
        with ledger_failures():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await self._lock(connection, session_id, survey_id, nullifier)
                if row["finishing_at"] is not None:
                    raise DomainError(ErrorCode.ANSWER_SESSION_FINISHED)
                choices = change(_decrypt(session_id, row["state"]))
                await connection.execute(_UPDATE, _hash(session_id), _encrypt(session_id, choices))
        return AnswerSession(session_id, survey_id, row["initialized_at"], None, choices)

    async def freeze(self, session_id: str, survey_id: str, nullifier: bytes, rules: BallotRules) -> AnswerSession:
        """Take no more changes and return what is to be voted; safe to repeat until and after `finish`.

        Raises:
            DomainError: a rule that the ballot breaks (the session stays open), `answer_session_not_found`,
                `ledger_unavailable`.
        """
        with ledger_failures():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await self._lock(connection, session_id, survey_id, nullifier)
                if row["finished_at"] is not None:
                    return AnswerSession(session_id, survey_id, row["initialized_at"], row["finished_at"], ())
                choices = _decrypt(session_id, row["state"])
                was_open = row["finishing_at"] is None
                if was_open:
                    rules.check(ballot_of(choices))
                at = await connection.fetchval(_FREEZE, _hash(session_id))
        frozen_at = at if was_open else None
        return AnswerSession(session_id, survey_id, row["initialized_at"], None, choices, frozen_at)

    async def thaw(self, session: AnswerSession) -> None:
        """Let a session be changed again whose vote was refused before anything was durable; safe to repeat.

        Only whoever froze it can tell that, and only while nobody else has frozen it again: their vote may count.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        if session.frozen_at is not None:
            with ledger_failures():
                await self._pool.execute(_THAW, _hash(session.session_id), session.frozen_at)

    async def remove(self, session_id: str) -> None:
        """Forget a session whose ballot can never count; safe to repeat.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        with ledger_failures():
            await self._pool.execute(_REMOVE, _hash(session_id))

    async def purge(self) -> int:
        """Forget sessions of surveys that ended `KEPT_AFTER_END` ago, some hundreds; return how many. Safe to repeat.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        with ledger_failures():
            return len(await self._pool.fetch(_PURGE, KEPT_AFTER_END, _PURGED_AT_ONCE))

    async def look(self, session_id: str, survey_id: str, nullifier: bytes) -> AnswerSession | None:
        """Return a session without its choices, or None where this voter has no such one.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        with ledger_failures():
            async with acknowledged(self._pool) as connection:
                row = await connection.fetchrow(_LOOK, _hash(session_id), survey_id, nullifier)
        return None if row is None else AnswerSession(session_id, survey_id, row[0], row[1], ())

    async def finish(self, session_id: str) -> datetime:
        """Mark a session as recorded and forget its choices; safe to repeat, the first instant stands.

        One that has made room for others meanwhile is finished now.

        Raises:
            DomainError: `ledger_unavailable`.
        """
        with ledger_failures():
            at: datetime | None = await self._pool.fetchval(_FINISH, _hash(session_id))
        return at if at is not None else datetime.now(UTC)

    @staticmethod
    async def _lock(
        connection: asyncpg.pool.PoolConnectionProxy, session_id: str, survey_id: str, nullifier: bytes
    ) -> asyncpg.Record:
        row = await connection.fetchrow(_LOCK, _hash(session_id), survey_id, nullifier)
        if row is None:
            raise DomainError(ErrorCode.ANSWER_SESSION_NOT_FOUND)
        return row


def _hash(session_id: str) -> bytes:
    return sha256(b"comitia/answer-session/" + session_id.encode()).digest()


def _cipher(session_id: str) -> AESGCM:
    hkdf = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"comitia/answer-session/state")
    return AESGCM(hkdf.derive(session_id.encode()))


def _encrypt(session_id: str, choices: Sequence[Choice]) -> bytes:
    content = json.dumps([(choice.question, choice.option, choice.text) for choice in choices]).encode()
    if len(content) > _STATE_BYTES:
        raise DomainError(ErrorCode.PAYLOAD_TOO_LARGE, "the session holds more than a ballot can")
    nonce = token_bytes(_NONCE_BYTES)
    return nonce + _cipher(session_id).encrypt(nonce, content.ljust(_STATE_BYTES), None)


def _decrypt(session_id: str, state: bytes) -> tuple[Choice, ...]:
    content = _cipher(session_id).decrypt(state[:_NONCE_BYTES], state[_NONCE_BYTES:], None)
    return tuple(Choice(*row) for row in json.loads(content))
