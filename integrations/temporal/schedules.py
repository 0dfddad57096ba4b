"""Temporal's schedules of reconciliation: two for each open survey, kept by Temporal through any outage of ours."""

from datetime import timedelta
from hashlib import sha256

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from domain.contracts.reconciliation import ReconcileSurveyInput
from domain.errors import DomainError, ErrorCode
from domain.ids import reconcile_survey_workflow_id

COMPLETE_EVERY = timedelta(hours=1)
_WORKFLOW = "ReconcileSurvey"
_SURVEY_ID = SearchAttributeKey.for_keyword("SurveyId")
_PREFIX = reconcile_survey_workflow_id("", "").rstrip("/") + "/"


class ReconciliationSchedules:
    """Begins and ends the passes of surveys. Calls raise DomainError `workflows_unavailable`."""

    def __init__(
        self,
        client: Client,
        queue: str,
        cells: tuple[str, ...],
        *,
        incremental_every: timedelta,
        complete_every: timedelta = COMPLETE_EVERY,
    ) -> None:
        self._client = client
        self._queue = queue
        self._cells = cells
        self._every = {"incremental": incremental_every, "complete": complete_every}

    async def begin(self, survey_id: str) -> None:
        """Schedule a survey's passes; one that is late or still runs when the next is due makes that one fall out.

        Safe to repeat. Surveys lie spread over the minute and the hour by their ids.
        """
        for kind, every in self._every.items():
            times = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every, offset=_offset(survey_id, every))])
            try:
                await self._client.create_schedule(
                    reconcile_survey_workflow_id(survey_id, kind),
                    Schedule(
                        action=self._action(survey_id, kind),
                        spec=times,
                        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=every),
                    ),
                )
            except ScheduleAlreadyRunningError:
                continue
            except RPCError as error:
                raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error

    def _action(self, survey_id: str, kind: str) -> ScheduleActionStartWorkflow:
        return ScheduleActionStartWorkflow(
            _WORKFLOW,
            ReconcileSurveyInput(survey_id=survey_id, cells=self._cells, complete=kind == "complete"),
            id=reconcile_survey_workflow_id(survey_id, kind),  # Temporal adds the instant
            task_queue=self._queue,
            typed_search_attributes=TypedSearchAttributes([SearchAttributePair(_SURVEY_ID, survey_id)]),
        )

    async def end(self, survey_id: str) -> None:
        """Schedule no more passes of a survey; what runs ends by itself. Safe to repeat."""
        for kind in self._every:
            handle = self._client.get_schedule_handle(reconcile_survey_workflow_id(survey_id, kind))
            try:
                await handle.delete()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error

    async def scheduled(self) -> set[str]:
        """Return the surveys that have a schedule, as Temporal lists them: seconds late at times."""
        try:
            return {
                found.id.removeprefix(_PREFIX).rpartition("/")[0]
                async for found in await self._client.list_schedules()
                if found.id.startswith(_PREFIX)
            }
        except RPCError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error


def _offset(survey_id: str, every: timedelta) -> timedelta:
    whole = max(1, int(every.total_seconds()))
    return timedelta(seconds=int.from_bytes(sha256(survey_id.encode()).digest()[:4]) % whole)
