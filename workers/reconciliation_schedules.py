"""Keeps the schedules of reconciliation as the catalogue has the surveys: begun at publication, ended at the end."""

import asyncio
import itertools

import structlog

from domain.errors import DomainError
from integrations.postgres.published_surveys import PublishedSurveys
from integrations.temporal.schedules import ReconciliationSchedules

_EVERY_S = 5.0
_LIST_EVERY = 12  # rounds: what others began or ended is learned within a minute

log = structlog.get_logger()


class ScheduleKeeper:
    """Compares what is open with what is scheduled. Any number may run at once: every step is safe to repeat."""

    def __init__(self, surveys: PublishedSurveys, schedules: ReconciliationSchedules) -> None:
        self._surveys = surveys
        self._schedules = schedules
        self._known: set[str] = set()

    async def run(self) -> None:
        """Keep the schedules until cancelled; what cannot be reached now is tried again."""
        failing = False
        for turn in itertools.count():
            try:
                await self.keep(look_again=turn % _LIST_EVERY == 0)
            except DomainError as error:
                if not failing:
                    log.warning("reconciliation_schedules_failing", code=error.code)
                failing = True
            else:
                failing = False
            await asyncio.sleep(_EVERY_S)

    async def keep(self, *, look_again: bool) -> None:
        """Begin and end what has to be; `look_again` asks Temporal for what is scheduled.

        Raises:
            DomainError: `catalogue_unavailable` or `workflows_unavailable`.
        """
        if look_again:
            self._known = await self._schedules.scheduled()
        published = await self._surveys.open()
        for survey_id in sorted(published - self._known):
            await self._schedules.begin(survey_id)
            self._known.add(survey_id)
            log.info("reconciliation_scheduled", election_id=survey_id)
        for survey_id in sorted(self._known - published):
            await self._schedules.end(survey_id)
            self._known.discard(survey_id)
            log.info("reconciliation_ended", election_id=survey_id)
