"""Sessions of one cell, in `identity.session` and `identity.refresh_token`."""

import hashlib
from collections.abc import Sequence
from typing import Any

import asyncpg

from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.sessions import (
    IDLE_LIFETIME,
    MAY_LOG_IN,
    SESSION_LIFETIME,
    SESSIONS_MAX,
    EndReason,
    LoginMethod,
    NewSession,
    Opened,
    Refreshed,
    RefreshVerdict,
    Session,
    UsedToken,
    judge_refresh,
    new_seed,
    refresh_token_hash,
    successor,
)
from domain.tokens import Assurance, RiskBand
from integrations.postgres.failures import unavailable_as
from integrations.postgres.unopened_logins import end_unopened_logins

GENERATIONS_KEPT = 200  # about two days of refreshing all the time; an older token is refused and ends nothing

_ADD_TOKEN = """
INSERT INTO identity.refresh_token (token_hash, session_id, generation) VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT pk_refresh_token DO NOTHING
"""  # noqa: S105 - a statement
_END = "UPDATE identity.session SET ended_at = clock_timestamp(), end_reason = $1 WHERE ended_at IS NULL"
# The voter is held until the session is written, so that an account that is suspended at the same time ends this one
# too, and one that is recovered refuses it. A statement does not see what it inserts: of the others one less is kept.
_OPEN = """
WITH holder AS MATERIALIZED (
    SELECT status, region, coalesce($16::timestamptz <= logins_from, false) AS outdated
    FROM identity.voter WHERE voter_id = $2 FOR SHARE
), let_in AS (
    SELECT FROM holder WHERE status = ANY ($14::text[]) AND NOT outdated
), opened AS (
    INSERT INTO identity.session (session_id, voter_id, jkt, method, device, network, assurance, risk, provider,
        provider_session, expires_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + $11::interval FROM let_in
    ON CONFLICT ON CONSTRAINT pk_session DO NOTHING
    RETURNING session_id, voter_id, jkt, method, device, network, assurance, risk, created_at, last_used_at, expires_at
), token AS (
    INSERT INTO identity.refresh_token (token_hash, session_id, generation) SELECT $12, $1, 1 FROM let_in
    ON CONFLICT ON CONSTRAINT pk_refresh_token DO NOTHING
), surplus AS (
    UPDATE identity.session SET ended_at = clock_timestamp(), end_reason = $15
    WHERE ended_at IS NULL AND EXISTS (SELECT FROM let_in) AND session_id IN (
        SELECT session_id FROM identity.session WHERE voter_id = $2 AND ended_at IS NULL AND session_id <> $1
        ORDER BY last_used_at DESC OFFSET $13 - 1
    ) RETURNING session_id
)
SELECT holder.status, holder.region, holder.outdated, ARRAY(SELECT session_id FROM surplus) AS ended, opened.*
FROM holder LEFT JOIN opened ON true
"""
_END_ONE = f"{_END} AND voter_id = $2 AND session_id = $3 RETURNING session_id"
_END_ALL = f"{_END} AND voter_id = $2 AND session_id <> $3 RETURNING session_id"
_END_KNOWN = f"{_END} AND session_id = $2"
# Of a session that came without the provider's session id nobody can say that it is another.
_END_OF_PROVIDER_SESSION = f"""
{_END} AND provider = $2 AND (provider_session = $3 OR (provider_session IS NULL AND voter_id = $4))
RETURNING session_id
"""
_END_OF_PROVIDER = f"{_END} AND provider = $2 AND voter_id = $3 RETURNING session_id"
_OBEY = """
INSERT INTO identity.logout_token (provider, jti_hash) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT pk_logout_token DO NOTHING RETURNING true
"""

_SESSION = """
SELECT s.session_id, s.voter_id, s.jkt, s.method, s.device, s.network, s.assurance, s.risk, v.region, s.created_at,
    s.last_used_at, s.expires_at, s.ended_at, v.status, clock_timestamp() AS now
FROM identity.session AS s JOIN identity.voter AS v ON v.voter_id = s.voter_id
"""
_IS_OPEN = (
    f"s.ended_at IS NULL AND s.expires_at > now() AND s.last_used_at > now() - interval '{IDLE_LIFETIME.days} days'"
)
_GET = f"{_SESSION} WHERE s.session_id = $1 AND {_IS_OPEN}"
_OF_VOTER = f"{_SESSION} WHERE s.voter_id = $1 AND {_IS_OPEN} ORDER BY s.last_used_at DESC, s.session_id"
# Everybody who uses a token of a session waits here for the others; the token is read afterwards, as they left it.
_LOCK = f"""
{_SESSION} WHERE s.session_id = (SELECT session_id FROM identity.refresh_token WHERE token_hash = $1) FOR UPDATE OF s
"""  # noqa: S608 - of constants
_TOKEN = "SELECT generation, used_at, seed, clock_timestamp() AS now FROM identity.refresh_token WHERE token_hash = $1"  # noqa: S105
_USE_TOKEN = "UPDATE identity.refresh_token SET used_at = clock_timestamp(), seed = $2 WHERE token_hash = $1"  # noqa: S105
_FORGET_SEED = "UPDATE identity.refresh_token SET seed = NULL WHERE session_id = $1 AND generation = $2"
_FORGET_TOKENS = "DELETE FROM identity.refresh_token WHERE session_id = $1 AND generation <= $2"
_USED = "UPDATE identity.session SET last_used_at = clock_timestamp() WHERE session_id = $1"

_ENDS = {
    RefreshVerdict.END_REUSED: EndReason.TOKEN_REUSED,
    RefreshVerdict.END_OTHER_KEY: EndReason.TOKEN_OF_OTHER_KEY,
}


class PostgresSessions:
    """Implements `Sessions`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def open(self, session: NewSession, refresh_token: str) -> Opened:
        """Open a session; `Sessions.open` says the rest."""
        s = session
        provider_session = _provider_session(s.provider, s.provider_sid) if s.provider_sid else None
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(
                _OPEN,
                *(s.session_id, s.voter_id, s.jkt, s.method, s.device, s.network, s.assurance, s.risk, s.provider),
                provider_session,
                SESSION_LIFETIME,
                refresh_token_hash(refresh_token),
                SESSIONS_MAX,
                [str(status) for status in MAY_LOG_IN],
                EndReason.TOO_MANY,
                s.logged_in_at,
            )
        if row is None or VoterStatus(row["status"]) not in MAY_LOG_IN:
            raise DomainError(ErrorCode.VOTER_NOT_ACTIVE)
        if row["outdated"]:
            raise DomainError(ErrorCode.LOGIN_FAILED)
        is_new = row["session_id"] is not None
        return Opened(_session(row) if is_new else await self.get(s.session_id), tuple(row["ended"]))

    async def get(self, session_id: str) -> Session | None:
        """Return an open session, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_GET, session_id)
        return None if row is None else _session(row)

    async def refresh(self, refresh_token: str, jkt: str) -> Refreshed:
        """Use a refresh token; `Sessions.refresh` says the rest."""
        token_hash = refresh_token_hash(refresh_token)
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                session = await connection.fetchrow(_LOCK, token_hash)
                token = await connection.fetchrow(_TOKEN, token_hash)
                if session is None or token is None:
                    return Refreshed(None)
                found = UsedToken(
                    jkt=session["jkt"],
                    status=VoterStatus(session["status"]),
                    expires_at=session["expires_at"],
                    last_used_at=session["last_used_at"],
                    ended=session["ended_at"] is not None,
                    used_at=token["used_at"],
                    seed=token["seed"],
                )
                verdict = judge_refresh(found, jkt, token["now"])
                if verdict is RefreshVerdict.REFUSE:
                    return Refreshed(None)
                if verdict in _ENDS:
                    await connection.execute(_END_KNOWN, _ENDS[verdict], session["session_id"])
                    return Refreshed(None, ended=(session["session_id"],))
                if verdict is RefreshVerdict.REPEAT:
                    return Refreshed(_session(session), successor(refresh_token, found.seed or b""))
                following = await _rotate(connection, session["session_id"], refresh_token, token["generation"])
        return Refreshed(_session(session), following)

    async def of_voter(self, voter_id: str) -> Sequence[Session]:
        """Return a voter's open sessions, the one used last first."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_OF_VOTER, voter_id)
        return [_session(row) for row in rows]

    async def end(self, voter_id: str, session_id: str, reason: EndReason) -> bool:
        """End one session of this voter; False where there is no such open session."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return await self._pool.fetchval(_END_ONE, reason, voter_id, session_id) is not None

    async def end_all(self, voter_id: str, reason: EndReason, *, but: str = "") -> tuple[str, ...]:
        """End every session of a voter except `but`, and logins without one; return the ids of those that were open."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                await end_unopened_logins(connection, voter_id)
                return _ids(await connection.fetch(_END_ALL, reason, voter_id, but))

    async def end_at_provider(
        self, provider: str, jti: str, *, sid: str = "", voter_id: str = ""
    ) -> tuple[str, ...] | None:
        """Obey a logout token once; `Sessions.end_at_provider` says the rest."""
        reason = EndReason.PROVIDER_LOGOUT
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                if not await connection.fetchval(_OBEY, provider, hashlib.sha256(jti.encode()).digest()):
                    return None
                if sid:
                    hashed = _provider_session(provider, sid)
                    rows = await connection.fetch(_END_OF_PROVIDER_SESSION, reason, provider, hashed, voter_id)
                    return _ids(rows)
                return _ids(await connection.fetch(_END_OF_PROVIDER, reason, provider, voter_id))


async def _rotate(connection: Any, session_id: str, token: str, generation: int) -> str:
    """Replace the session's newest token, whose use shows that its own arrived; return its successor."""
    seed = new_seed()
    following = successor(token, seed)
    await connection.execute(_USE_TOKEN, refresh_token_hash(token), seed)
    await connection.execute(_FORGET_SEED, session_id, generation - 1)
    await connection.execute(_ADD_TOKEN, refresh_token_hash(following), session_id, generation + 1)
    if generation > GENERATIONS_KEPT:
        await connection.execute(_FORGET_TOKENS, session_id, generation - GENERATIONS_KEPT)
    await connection.execute(_USED, session_id)
    return following


def _provider_session(provider: str, sid: str) -> bytes:
    return hashlib.sha256(f"{provider}\0{sid}".encode()).digest()


def _ids(rows: Sequence[asyncpg.Record]) -> tuple[str, ...]:
    return tuple(row["session_id"] for row in rows)


def _session(row: asyncpg.Record) -> Session:
    return Session(
        session_id=row["session_id"],
        voter_id=row["voter_id"],
        jkt=row["jkt"],
        method=LoginMethod(row["method"]),
        device=row["device"],
        network=row["network"],
        assurance=Assurance(row["assurance"]),
        risk=RiskBand(row["risk"]),
        region=row["region"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
    )
