"""The copies of surveys in one cell: the vote path's and admission's, always written together."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import asyncpg

from domain.contracts.surveys import InstallSurveyInput, Survey, SurveyIntake, SurveyWindow
from domain.errors import DomainError, ErrorCode
from integrations.postgres.failures import unavailable_as

_IS_INSTALLED = "SELECT EXISTS (SELECT FROM voting.survey WHERE survey_id = $1)"

_INSTALL_VOTING = """
INSERT INTO voting.survey (survey_id, definition, wrapped_ballot_key) VALUES ($1, $2::jsonb, $3)
ON CONFLICT (survey_id) DO NOTHING
"""

# Keys and window of an installed survey stay; an older definition that arrives late changes nothing.
_CORRECT_VOTING = """
UPDATE voting.survey SET definition = $2::jsonb
WHERE survey_id = $1 AND coalesce((definition ->> 'version')::bigint, 0) < ($2::jsonb ->> 'version')::bigint
"""

_INSTALL_IDENTITY = """
INSERT INTO identity.survey (survey_id, regions, minimum_age, roll_required, wrapped_eligibility_key)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (survey_id) DO NOTHING
"""

# Whoever records votes holds a shared lock on the survey's row, and under load somebody always does: an exclusive lock
# on the row would wait for ever. Locks on tables are granted in turn, so this one waits for the batches that are being
# recorded now, and only for those; reading goes on.
_WAIT_FOR_RECORDING = "LOCK TABLE voting.survey IN EXCLUSIVE MODE"
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"

# The end never moves before the moment that the cell learns it, nor after it has passed: what was confirmed stays. That
# moment is read under the lock, so behind every vote that was being recorded. It is told by the clock that votes are
# accepted by: $4 is its time when this server's said $5, which is a stopwatch here, and may be an hour off.
_SET_VOTING_WINDOW = """
UPDATE voting.survey SET start_at = $2, finish_at = CASE
    WHEN finish_at <= learnt.at THEN finish_at
    WHEN $3::timestamptz IS NULL THEN NULL
    ELSE greatest($3, learnt.at)
END
FROM (SELECT $4::timestamptz + (clock_timestamp() - $5::timestamptz) AS at OFFSET 0) AS learnt
WHERE survey_id = $1 RETURNING start_at, finish_at
"""
_STOPWATCH = "SELECT clock_timestamp()"

_SET_IDENTITY_WINDOW = (
    "UPDATE identity.survey SET start_at = $2, finish_at = $3 WHERE survey_id = $1 RETURNING survey_id"
)

_PAUSE = """
UPDATE voting.survey SET paused_at = CASE WHEN $2 THEN coalesce(paused_at, clock_timestamp()) END
WHERE survey_id = $1 RETURNING survey_id
"""

_GET = "SELECT definition, start_at, finish_at FROM voting.survey WHERE survey_id = $1"


class PostgresCellSurveys:
    """Implements `CellSurveys` and `CellIntake`; made for the role `comitia_surveys` in a cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def install(self, request: InstallSurveyInput) -> None:
        """Put a survey and its keys into the cell, not open yet; a later version replaces the definition.

        Raises:
            DomainError: `ledger_unavailable` (retryable).
        """
        survey = request.survey.model_copy(update={"start_at": None, "finish_at": None})
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                definition = survey.model_dump_json()
                if await connection.fetchval(_IS_INSTALLED, survey.id):
                    await wait_for_recording(connection)
                    await connection.execute(_CORRECT_VOTING, survey.id, definition)
                    return
                await connection.execute(_INSTALL_VOTING, survey.id, definition, request.wrapped_ballot_key)
                await connection.execute(
                    _INSTALL_IDENTITY,
                    survey.id,
                    list(survey.regions),
                    survey.minimum_age,
                    survey.roll_required,
                    request.wrapped_eligibility_key,
                )

    async def set_window(self, window: SurveyWindow, now: Callable[[], datetime]) -> None:
        """Set when the survey opens and closes in the cell; an end holds from the moment that the cell has it.

        `now` is the clock by which votes are accepted.

        Raises:
            DomainError: `survey_not_found` where it is not installed, `ledger_unavailable` (retryable).
        """
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                began = await connection.fetchval(_STOPWATCH)
                asked = now()
                if window.finish_at is not None:
                    await wait_for_recording(connection)
                row = await connection.fetchrow(
                    _SET_VOTING_WINDOW, window.survey_id, window.start_at, window.finish_at, asked, began
                )
                if row is None:
                    raise DomainError(ErrorCode.SURVEY_NOT_FOUND, f"not installed in {window.cell}")
                await connection.fetchval(_SET_IDENTITY_WINDOW, window.survey_id, row["start_at"], row["finish_at"])

    async def set_intake(self, request: SurveyIntake) -> None:
        """Pause or resume the taking of votes; those that were accepted are recorded all the same. Safe to repeat.

        Raises:
            DomainError: `survey_not_found`, `ledger_unavailable`.
        """
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                await wait_for_recording(connection)
                if await connection.fetchval(_PAUSE, request.survey_id, request.paused) is None:
                    raise DomainError(ErrorCode.SURVEY_NOT_FOUND, f"not installed in {request.cell}")

    async def get(self, survey_id: str) -> Survey | None:
        """Return the cell's copy with its window, or None."""
        with unavailable_as(ErrorCode.LEDGER_UNAVAILABLE):
            row = await self._pool.fetchrow(_GET, survey_id)
        if row is None:
            return None
        survey = Survey.model_validate_json(row["definition"])
        return survey.model_copy(update={"start_at": row["start_at"], "finish_at": row["finish_at"]})


async def wait_for_recording(connection: Any) -> None:
    """Hold the surveys of a cell until the transaction ends: nobody records meanwhile, and those before us are through.

    Raises the driver's LockNotAvailableError after 2 s.
    """
    await connection.execute(_LOCK_TIMEOUT)
    await connection.execute(_WAIT_FOR_RECORDING)
