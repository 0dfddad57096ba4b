"""The cell's copies of surveys as the vote path reads them: rules, keys and window, kept for a second."""

import asyncio
import time
from collections.abc import Callable
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
_IDLE_S = 2.0  # nobody asked for so long: what is kept may be of any age
_RELOAD_S = 0.5  # then it is what there is: the database is away
_KEPT_MAX = 1000  # surveys; the least recently loaded go first

log = structlog.get_logger()

_LOAD = """
SELECT definition, wrapped_ballot_key, start_at, finish_at, sealed_at IS NOT NULL AS sealed,
    paused_at IS NOT NULL AS paused
FROM voting.survey WHERE survey_id = $1
"""


@dataclass(slots=True)
class VotingSurvey:
    """One installed survey; `window` is at most `_IDLE_S` old while the database answers, unless it is in `doubt`."""

    survey_id: str
    box: BallotBox
    seal: SurveySeal
    window: Window
    loaded_at: float
    asked_at: float
    is_paused: bool = False
    doubt: bool = False


class VotingSurveys:
    """Reads installed surveys once and their windows again every second while they are asked for.

    Only a hint for good answers: recording reads the window under a lock. But the hint is all that a voter hears of an
    extension, or of a pause, so the first one after a while waits until it is read again.
    """

    def __init__(self, pool: asyncpg.Pool, keys: KeyManagement, *, now: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._keys = keys
        self._now = now
        self._kept: dict[str, VotingSurvey] = {}
        self._loading: dict[str, asyncio.Task[VotingSurvey | None]] = {}

    def knows(self, survey_id: str) -> bool:
        """Tell whether a survey is kept, whatever its age."""
        return survey_id in self._kept

    def peek(self, survey_id: str) -> VotingSurvey | None:
        """Return what is kept, at once, or None: ask `get`. What is not fresh is read again behind the caller's back.

        None also where nobody has asked for a while, until it is read again.
        """
        survey = self._kept.get(survey_id)
        if survey is None:
            return None
        now = self._now()
        if now - survey.asked_at > _IDLE_S:
            survey.doubt = True
        survey.asked_at = now
        if survey.doubt:
            return None
        self._refresh(survey)
        return survey

    def _refresh(self, survey: VotingSurvey) -> None:
        if self._now() - survey.loaded_at > _FRESH_S:
            self._load_once(survey.survey_id)

    async def get(self, survey_id: str) -> VotingSurvey | None:
        """Return an installed survey, or None where the cell has none of this id.

        Where the database does not answer, one that is kept is returned as it was: votes are accepted meanwhile.

        Raises:
            DomainError: `ledger_unavailable`, `key_unavailable`, `key_destroyed`, or `internal` where nobody can read
                its definition.
        """
        found = self.peek(survey_id)
        if found is not None:
            return found
        task, kept = self._load_once(survey_id), self._kept.get(survey_id)
        if kept is None:
            return await asyncio.shield(task)
        await asyncio.wait({task}, timeout=_RELOAD_S)
        kept.doubt = False
        has_answer = task.done() and not task.cancelled() and task.exception() is None
        return task.result() if has_answer else kept

    async def boxes(self, survey_ids: set[str]) -> tuple[dict[str, BallotBox], dict[str, DomainError]]:
        """Return the ballot boxes of those surveys that the cell has, and why others of them could not be had.

        Each is had or not by itself: what one survey lost is nothing to the votes of another.
        """
        boxes: dict[str, BallotBox] = {}
        failures: dict[str, DomainError] = {}
        for survey_id in survey_ids:
            try:
                survey = self._kept.get(survey_id) or await self.get(survey_id)  # of any age: keys and rules stay
            except DomainError as error:
                failures[survey_id] = error
            else:
                if survey is not None:
                    self._refresh(survey)
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
            log.warning("survey_not_loaded", election_id=survey_id, exc_info=error)

    async def _load(self, survey_id: str) -> VotingSurvey | None:
        with ledger_failures():
            row = await self._pool.fetchrow(_LOAD, survey_id)
        if row is None or not row["wrapped_ballot_key"]:
            self._kept.pop(survey_id, None)  # at the end of a retention the key goes, here too
            return None
        window = Window(row["start_at"], row["finish_at"], row["sealed"])
        kept = self._kept.get(survey_id)
        if kept is not None:
            kept.window, kept.loaded_at, kept.is_paused = window, self._now(), row["paused"]
            kept.doubt = False
            return kept
        seal = SurveySeal(survey_id, await self._keys.unwrap(row["wrapped_ballot_key"], survey_id))
        try:
            rules = BallotRules(Survey.model_validate_json(row["definition"]))
        except ValidationError as error:
            raise DomainError(ErrorCode.INTERNAL, f"the definition of {survey_id} cannot be read") from error
        now = self._now()
        survey = VotingSurvey(survey_id, BallotBox(rules, seal), seal, window, now, now, row["paused"])
        self._kept[survey_id] = survey
        while len(self._kept) > _KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        return survey
