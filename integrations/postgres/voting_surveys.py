"""The cell's copies of surveys as the vote path reads them: rules, keys and window, kept for a second."""

import asyncio
import time
from dataclasses import dataclass

import asyncpg
import structlog
from pydantic import ValidationError

from domain.ballots import BallotRules
from domain.contracts.surveys import Survey
from domain.errors import DomainError, ErrorCode
from domain.ports import KeyManagement
from domain.recording import BallotBox, Window
from integrations.keys.sealing import SurveySeal
from integrations.postgres.failures import ledger_failures

_FRESH_S = 1.0
_KEPT_MAX = 1000  # surveys; the least recently loaded go first

log = structlog.get_logger()

_LOAD = """
SELECT definition, wrapped_ballot_key, start_at, finish_at, sealed_at IS NOT NULL AS sealed,
    paused_at IS NOT NULL AS paused
FROM voting.survey WHERE survey_id = $1
"""


@dataclass(slots=True)
class VotingSurvey:
    """One installed survey; `window` is at most `_FRESH_S` old while the database answers."""

    survey_id: str
    box: BallotBox
    seal: SurveySeal
    window: Window
    loaded_at: float
    is_paused: bool = False


class VotingSurveys:
    """Reads installed surveys once and their windows again every second while they are asked for.

    Only a hint for good answers: recording reads the window under a lock.
    """

    def __init__(self, pool: asyncpg.Pool, keys: KeyManagement) -> None:
        self._pool = pool
        self._keys = keys
        self._kept: dict[str, VotingSurvey] = {}
        self._loading: dict[str, asyncio.Task[VotingSurvey | None]] = {}

    def peek(self, survey_id: str) -> VotingSurvey | None:
        """Return what is kept, at once; what is no longer fresh is read again behind the caller's back."""
        survey = self._kept.get(survey_id)
        if survey is not None and time.monotonic() - survey.loaded_at > _FRESH_S:
            self._load_once(survey_id)
        return survey

    async def get(self, survey_id: str) -> VotingSurvey | None:
        """Return an installed survey, or None where the cell has none of this id.

        Raises:
            DomainError: `ledger_unavailable`, `key_unavailable`, `key_destroyed`, or `internal` where nobody can read
                its definition.
        """
        kept = self.peek(survey_id)
        return kept if kept is not None else await asyncio.shield(self._load_once(survey_id))

    async def boxes(self, survey_ids: set[str]) -> tuple[dict[str, BallotBox], dict[str, DomainError]]:
        """Return the ballot boxes of those surveys that the cell has, and why others of them could not be had.

        Each is had or not by itself: what one survey lost is nothing to the votes of another.
        """
        boxes: dict[str, BallotBox] = {}
        failures: dict[str, DomainError] = {}
        for survey_id in survey_ids:
            try:
                survey = await self.get(survey_id)
            except DomainError as error:
                failures[survey_id] = error
            else:
                if survey is not None:
                    boxes[survey_id] = survey.box
        return boxes, failures

    def _load_once(self, survey_id: str) -> asyncio.Task[VotingSurvey | None]:
        task = self._loading.get(survey_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(survey_id))
            self._loading[survey_id] = task
            task.add_done_callback(lambda done: self._loaded(survey_id, done))
        return task

    def _loaded(self, survey_id: str, task: asyncio.Task[VotingSurvey | None]) -> None:
        del self._loading[survey_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("survey_not_loaded", election_id=survey_id, error=str(error))

    async def _load(self, survey_id: str) -> VotingSurvey | None:
        with ledger_failures():
            row = await self._pool.fetchrow(_LOAD, survey_id)
        if row is None or not row["wrapped_ballot_key"]:
            self._kept.pop(survey_id, None)  # at the end of a retention the key goes, here too
            return None
        window = Window(row["start_at"], row["finish_at"], row["sealed"])
        kept = self._kept.get(survey_id)
        if kept is not None:
            kept.window, kept.loaded_at, kept.is_paused = window, time.monotonic(), row["paused"]
            return kept
        seal = SurveySeal(survey_id, await self._keys.unwrap(row["wrapped_ballot_key"], survey_id))
        try:
            rules = BallotRules(Survey.model_validate_json(row["definition"]))
        except ValidationError as error:
            raise DomainError(ErrorCode.INTERNAL, f"the definition of {survey_id} cannot be read") from error
        survey = VotingSurvey(survey_id, BallotBox(rules, seal), seal, window, time.monotonic(), row["paused"])
        self._kept[survey_id] = survey
        while len(self._kept) > _KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        return survey
