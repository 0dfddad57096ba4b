"""How executions of one namespace stand now: described by id, or found by stage and age."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from domain.cases import WORKFLOW_TASK, PendingActivity, Standing, known_code
from domain.errors import DomainError, ErrorCode
from integrations.temporal.events import at
from integrations.temporal.workflow_tasks import task_code_of

_TIMEOUT: Final = timedelta(seconds=5)
_STAGE: Final = SearchAttributeKey.for_keyword("ProcessStage")
_AT_ONCE: Final = 8
_LAST_EVENTS: Final = 100  # among which a task that failed is: while it fails few others come
_FAILING: Final = "ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL"  # the server's own attribute
_PAGE: Final = 1_000  # executions in one answer; more is refused


class Standings:
    """Reads what Temporal knows of executions without opening anything."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of(self, workflow_id: str) -> Standing | None:
        """Return how the newest run stands, or None where there is none any more.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=_TIMEOUT)
            standing, task = _standing(found), found.raw_description.pending_workflow_task
            if task.attempt > 1:
                failed = await self._failed_task(workflow_id, found.run_id)
                standing = replace(standing, pending=(_failing(task, failed), *standing.pending))
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return standing

    async def _failed_task(self, workflow_id: str, run_id: str) -> HistoryEvent | None:
        """Return the last event of a task that failed: of those since then there is none until one succeeds."""
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            maximum_page_size=_LAST_EVENTS,
        )
        service = self._client.workflow_service
        found = await service.get_workflow_execution_history_reverse(request, timeout=_TIMEOUT)
        return next((event for event in found.history.events if task_code_of(event)), None)

    async def open_since(
        self,
        processes: Sequence[str],
        stages: Collection[str],
        before: datetime,
        limit: int,
        token: bytes = b"",
        *,
        escalated: bool = False,
    ) -> tuple[Sequence[str], bytes]:
        """Return workflow ids of open executions that began before an instant, and the token of the next page.

        No `stages` are any; an empty one takes those that have noted none yet. `escalated` takes those alone that are
        marked so. The page holds `limit` at most, and may be seconds behind.

        Raises:
            DomainError: `workflows_unavailable`, `malformed_request` for a token that is none.
        """
        query = _open_before(processes, stages, before) + (" AND Escalated = true" if escalated else "")
        pages = self._client.list_workflows(query, page_size=limit, next_page_token=token or None, rpc_timeout=_TIMEOUT)
        try:
            await pages.fetch_next_page()
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT and token:
                raise DomainError(ErrorCode.MALFORMED_REQUEST, "cursor: not one of ours") from error
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return [found.id for found in pages.current_page or ()], pages.next_page_token or b""

    async def every_open_since(
        self, process: str, stages: Collection[str], before: datetime, most: int
    ) -> tuple[dict[str, datetime], bool]:
        """Return when each of the same executions began, of no more than `most`, and whether there are more.

        Temporal lists the newest first and in no other order, so the oldest of more than `most` are not among them.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        query, began = _open_before((process,), stages, before), dict[str, datetime]()
        pages = self._client.list_workflows(query, page_size=min(most, _PAGE), rpc_timeout=_TIMEOUT)
        try:
            async for found in pages:
                if len(began) == most:
                    return began, True
                began[found.id] = found.start_time
        except RPCError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return began, False

    async def every_failing(self, most: int) -> tuple[Sequence[str], bool]:
        """Return the ids of open executions whose own code fails again and again, and whether there are more.

        The server marks them after some attempts of about ten seconds each.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        pages = self._client.list_workflows(_FAILING, page_size=min(most, _PAGE), rpc_timeout=_TIMEOUT)
        found: list[str] = []
        try:
            async for each in pages:
                if len(found) == most:
                    return found, True
                found.append(each.id)
        except RPCError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return found, False

    async def of_all(self, workflow_ids: Sequence[str]) -> list[Standing]:
        """Return how these stand, those that are gone left out. Raises DomainError `workflows_unavailable`."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def one(workflow_id: str) -> Standing | None:
            async with at_once:
                return await self.of(workflow_id)

        found = await asyncio.gather(*map(one, workflow_ids))
        return [standing for standing in found if standing is not None]


def _open_before(processes: Sequence[str], stages: Collection[str], before: datetime) -> str:
    types = ", ".join(f"'{process}'" for process in processes)
    any_of = " OR ".join(f"ProcessStage = '{stage}'" if stage else "ProcessStage IS NULL" for stage in stages)
    of_stage = f" AND ({any_of})" if any_of else ""
    began = before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"WorkflowType IN ({types}) AND ExecutionStatus = 'Running' AND StartTime < '{began}'{of_stage}"


def code_of(failure: Failure) -> str:
    """Return the code of a failure: the catalogue's, `timed_out`, `cancelled`, or `internal`; never its text."""
    while True:
        if failure.HasField("application_failure_info"):
            return known_code(failure.application_failure_info.type)
        if failure.HasField("timeout_failure_info") and not failure.HasField("cause"):
            return "timed_out"
        if failure.HasField("canceled_failure_info"):
            return "cancelled"
        if not failure.HasField("cause"):
            return ErrorCode.INTERNAL.value
        failure = failure.cause


def _standing(found: WorkflowExecutionDescription) -> Standing:
    return Standing(
        workflow_id=found.id,
        process=found.workflow_type,
        status="unknown" if found.status is None else found.status.name.lower(),
        began_at=found.start_time,
        ended_at=found.close_time,
        stage=found.typed_search_attributes.get(_STAGE, ""),
        pending=tuple(map(_pending, found.raw_description.pending_activities)),
        children=tuple(child.workflow_id for child in found.raw_description.pending_children),
    )


def _failing(task: Any, failed: HistoryEvent | None) -> PendingActivity:
    scheduled_at = task.scheduled_time.ToDatetime(tzinfo=UTC)
    return PendingActivity(
        name=WORKFLOW_TASK,
        attempts=task.attempt - (not task.HasField("started_time")),
        scheduled_at=scheduled_at,
        code=ErrorCode.INTERNAL.value if failed is None else task_code_of(failed),
        failing_since=scheduled_at if failed is None else at(failed),
    )


def _pending(found: Any) -> PendingActivity:
    is_waiting = found.HasField("next_attempt_schedule_time")
    return PendingActivity(
        name=found.activity_type.name,
        attempts=found.attempt - is_waiting,  # the one that it waits for is counted there already
        scheduled_at=found.scheduled_time.ToDatetime(tzinfo=UTC),
        code=code_of(found.last_failure) if found.HasField("last_failure") else "",
        again_at=found.next_attempt_schedule_time.ToDatetime(tzinfo=UTC) if is_waiting else None,
    )
