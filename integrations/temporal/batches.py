"""Starts the workflow of a batch, and finds what became of it."""

from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.contracts.voting import SubmitVotesInput, SubmitVotesResult
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId, submit_votes_workflow_id
from domain.retry_budget import RetryBudget
from integrations.deadlines import within

VOTES_QUEUE = "votes"
_AWAY = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED})
WORKFLOW_TYPE = "SubmitVotes"
_TASK_TIMEOUT = timedelta(seconds=3)  # a killed process's first task goes to another worker after this


class TemporalBatches:
    """The batches of one cell as durable executions."""

    def __init__(self, client: Client, cell: str, *, start_timeout: timedelta = timedelta(seconds=2)) -> None:
        self._client = client
        self._cell = cell
        self._start_timeout = start_timeout
        self._retries = RetryBudget()

    async def start(self, batch: SubmitVotesInput) -> None:
        """Return once Temporal has the batch durably; its first task comes back at once (eager start).

        Safe to repeat: the same batch id is the same execution, also after it ended.

        Raises:
            DomainError: `outcome_unknown`; the batch may or may not have started.
        """
        try:
            await self._client.start_workflow(
                WORKFLOW_TYPE,
                batch,
                id=submit_votes_workflow_id(self._cell, BatchId(batch.gateway_id, batch.number)),
                task_queue=VOTES_QUEUE,
                task_timeout=_TASK_TIMEOUT,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                request_eager_start=True,
                rpc_timeout=self._start_timeout,
            )
        except WorkflowAlreadyStartedError:
            return
        except RPCError as error:
            raise DomainError(ErrorCode.OUTCOME_UNKNOWN, error.status.name) from error

    async def result(self, batch_id: BatchId) -> bytes:
        """Wait for a batch's outcomes as its execution returns them, however long that takes.

        Raises:
            DomainError: `workflows_unavailable`, or `internal` where the execution failed (a fault).
        """
        handle = self._client.get_workflow_handle(
            submit_votes_workflow_id(self._cell, batch_id), result_type=SubmitVotesResult
        )
        try:
            result: SubmitVotesResult = await handle.result()
        except WorkflowFailureError as error:
            raise DomainError(ErrorCode.INTERNAL, "the batch's execution failed") from error
        except RPCError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return result.outcomes

    async def is_known(self, batch_id: BatchId) -> bool:
        """Tell whether Temporal has an execution of this batch, open or retained.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=submit_votes_workflow_id(self._cell, batch_id)),
        )
        self._retries.requested()
        try:
            description = await self._describe(request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return int(description.workflow_execution_info.status) != WorkflowExecutionStatus.TERMINATED

    async def _describe(self, request: DescribeWorkflowExecutionRequest) -> DescribeWorkflowExecutionResponse:
        """Ask once, and once more within the budget; not with the driver's own retries, which know no budget."""
        describe = self._client.workflow_service.describe_workflow_execution
        try:
            return await describe(request, retry=False, timeout=self._rpc_timeout())
        except RPCError as error:
            if error.status not in _AWAY or not self._retries.spend():
                raise
        return await describe(request, retry=False, timeout=self._rpc_timeout())

    def _rpc_timeout(self) -> timedelta:
        return timedelta(seconds=within(self._start_timeout.total_seconds()))
