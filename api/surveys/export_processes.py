"""Starts `ExportResults` and says how far it is."""

from dataclasses import dataclass
from enum import StrEnum

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.contracts.exports import ExportRequest
from domain.contracts.work import CancelWork
from domain.errors import DomainError, ErrorCode
from domain.ids import export_results_workflow_id
from integrations.platform import EXPORTS_QUEUE
from integrations.temporal.updates import CANCELLING, answered
from workflows.export_results import ExportResultsWorkflow
from workflows.search_attributes import SURVEY_ID


class ExportStatus(StrEnum):
    """How an export stands."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far a file is: pieces written, and pieces in all (0 while that is not known)."""

    status: ExportStatus
    done: int = 0
    pieces: int = 0


class ExportProcesses:
    """The running exports of the platform."""

    def __init__(self, client: Client, *, queue: str = EXPORTS_QUEUE, patience_s: float = 5.0) -> None:
        """`patience_s` is how long whoever cancels waits for an answer."""
        self._client = client
        self._queue = queue
        self._patience_s = patience_s

    async def start(self, request: ExportRequest) -> None:
        """Return once Temporal has the export durably. Safe to repeat.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        try:
            await self._client.start_workflow(
                ExportResultsWorkflow.run,
                request,
                id=export_results_workflow_id(request.survey_id, request.export_id),
                task_queue=self._queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes([SearchAttributePair(SURVEY_ID, request.survey_id)]),
            )
        except WorkflowAlreadyStartedError:
            return  # and over by now
        except RPCError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error

    async def cancel(self, survey_id: str, export_id: str, request: CancelWork) -> None:
        """Return once an export has ended without a file, and that is noted. Safe to repeat: it is done once.

        Raises:
            DomainError: `work_ended` where its file is written, or there is no such process any more;
                `workflows_unavailable`.
        """
        handle = self._client.get_workflow_handle(export_results_workflow_id(survey_id, export_id))
        async with answered(self._patience_s, DomainError(ErrorCode.WORK_ENDED)):
            await handle.execute_update(ExportResultsWorkflow.cancel, request, id=CANCELLING)

    async def progress(self, survey_id: str, export_id: str) -> ExportProgress | None:
        """Return how far an export is, or None where there is none.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        try:
            found = await self._client.get_workflow_handle(export_results_workflow_id(survey_id, export_id)).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        if found.status is WorkflowExecutionStatus.COMPLETED:
            return ExportProgress(ExportStatus.FINISHED)
        if found.status is not WorkflowExecutionStatus.RUNNING:
            return ExportProgress(ExportStatus.FAILED)
        for pending in found.raw_description.pending_activities:
            if pending.HasField("heartbeat_details"):
                done, pieces = await self._client.data_converter.decode(pending.heartbeat_details.payloads, [int, int])
                return ExportProgress(ExportStatus.RUNNING, done, pieces)
        return ExportProgress(ExportStatus.RUNNING)
