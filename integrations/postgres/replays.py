"""Replays of one cell and their verdicts in PostgreSQL: a step's verdicts are there with its counts, or not at all."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from domain.audit import AuditEntry
from domain.contracts.replays import ReplayInput, ReplayState, ReplayStep
from domain.contracts.work import WorkStage
from domain.errors import DomainError, ErrorCode
from domain.replay import ReplayVerdict, Verdict
from domain.replay_ports import KeptVerdict
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

KEPT_FOR: Final = timedelta(days=90)  # behind its end: what it was asked for stays an entry

_COLUMNS = "request::text AS request, asked_by, asked_at, stage, steps, judged_until, same, different, cannot, ended_at"
_ASK = """
INSERT INTO identity.replay (replay_id, asked_by, request, judged_until) VALUES ($1, $2, $3::jsonb, $4)
ON CONFLICT ON CONSTRAINT pk_replay DO NOTHING RETURNING replay_id
"""
_FIND = f"SELECT {_COLUMNS} FROM identity.replay WHERE replay_id = $1"  # noqa: S608 - names of ours
_NEWEST = f"""
SELECT {_COLUMNS} FROM identity.replay
WHERE $1::timestamptz IS NULL OR (asked_at, replay_id) < ($1, $2)
ORDER BY asked_at DESC, replay_id DESC LIMIT $3
"""  # noqa: S608
# Of a step that is kept already, or of a replay that has ended, no row comes back
_STEP = """
UPDATE identity.replay SET steps = steps + 1, judged_until = $3, same = same + $4, different = different + $5,
    cannot = cannot + $6
WHERE replay_id = $1 AND steps = $2 AND stage = 'running'
RETURNING same + different + cannot
"""
_VERDICTS = """
INSERT INTO identity.replay_verdict (replay_id, number, verdict, document)
SELECT $1, $2 + place, verdict, document::jsonb
FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS step (verdict, document, place)
"""
_END = "UPDATE identity.replay SET stage = $2, ended_at = now() WHERE replay_id = $1 AND stage = 'running'"
_READ = """
SELECT number, document::text AS document FROM identity.replay_verdict
WHERE replay_id = $1 AND number > $2 AND ($4::text IS NULL OR verdict = $4) ORDER BY number LIMIT $3
"""
_FORGET = """
DELETE FROM identity.replay WHERE replay_id IN (
    SELECT replay_id FROM identity.replay WHERE ended_at < now() - $1::interval ORDER BY ended_at LIMIT 10
)
"""


class PostgresReplays:
    """Implements `ReplayRecords`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def ask(self, request: ReplayInput, entry: AuditEntry) -> ReplayState:
        """Keep what is asked for, with its entry, once; return how far it is."""
        asked = request.model_dump_json()
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                row = (request.replay_id, entry.actor, asked, request.since)
                if await connection.fetchval(_ASK, *row) is not None:
                    await append(connection, entry)
                state = await _found(connection, request.replay_id)
        if state.request != request or state.asked_by != entry.actor:
            raise DomainError(ErrorCode.IDEMPOTENCY_KEY_USED)
        return state

    async def record(self, step: ReplayStep, until: datetime | None, verdicts: Sequence[ReplayVerdict]) -> ReplayState:
        """Keep the verdicts of a step, once, and not of a replay that has ended; return how far it is."""
        replay_id, kinds = step.request.replay_id, [verdict.verdict for verdict in verdicts]
        counts = (kinds.count(Verdict.SAME), kinds.count(Verdict.DIFFERENT), kinds.count(Verdict.CANNOT))
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                judged = await connection.fetchval(_STEP, replay_id, step.number, until, *counts)
                if judged is not None:
                    documents = [msgspec.json.encode(verdict).decode() for verdict in verdicts]
                    first = judged - len(verdicts)
                    await connection.execute(_VERDICTS, replay_id, first, [str(kind) for kind in kinds], documents)
                return await _found(connection, replay_id)

    async def end(self, replay_id: str, stage: WorkStage) -> ReplayState:
        """Note how a replay has ended; the first one stays."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_END, replay_id, stage.value)
                return await _found(connection, replay_id)

    async def find(self, replay_id: str) -> ReplayState | None:
        """Return how far a replay is, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_FIND, replay_id)
        return None if row is None else _state(row)

    async def newest(self, before: tuple[datetime, str] | None, limit: int) -> list[ReplayState]:
        """Return replays, newest first, that come after the one that was asked for then and has this id."""
        asked_at, replay_id = (None, "") if before is None else before
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_NEWEST, asked_at, replay_id, limit)
        return [_state(row) for row in rows]

    async def verdicts(self, replay_id: str, after: int, limit: int, only: Verdict | None = None) -> list[KeptVerdict]:
        """Return verdicts by their places, behind the place `after`, of one kind or of all."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_READ, replay_id, after, limit, only)
        return [KeptVerdict(row["number"], msgspec.json.decode(row["document"], type=ReplayVerdict)) for row in rows]

    async def forget_older(self) -> int:
        """Delete some of those that ended long ago, with their verdicts; return how many."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_FORGET, KEPT_FOR)).rpartition(" ")[2])


async def _found(connection: Any, replay_id: str) -> ReplayState:
    row = await connection.fetchrow(_FIND, replay_id)
    if row is None:
        raise DomainError(ErrorCode.NOT_FOUND, "no such replay, or not any more")
    return _state(row)


def _state(row: Any) -> ReplayState:
    told = {name: row[name] for name in ReplayState.model_fields if name != "request"}
    return ReplayState(request=ReplayInput.model_validate(json.loads(row["request"])), **told)
