"""The executions of a cell's batches: what Temporal says of one by its id is never behind, a listing is."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from domain.draining import BatchExecution
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId, batch_of_workflow_id, submit_votes_workflow_id
from integrations.temporal.batches import WORKFLOW_TYPE

_TIMEOUT = timedelta(seconds=5)
_PAGE = 1000


class TemporalBatchExecutions:
    """Implements `BatchExecutions` for one cell; needs no key, since it reads no payload."""

    def __init__(self, client: Client, cell: str) -> None:
        self._client = client
        self._cell = cell

    async def describe(self, batch: BatchId) -> BatchExecution | None:
        """Return an execution, open or retained, or None.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        handle = self._client.get_workflow_handle(submit_votes_workflow_id(self._cell, batch))
        try:
            found = await handle.describe(rpc_timeout=_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        status = found.status
        name = "unknown" if status is None else status.name.lower()
        return BatchExecution(found.start_time, status is WorkflowExecutionStatus.RUNNING, name)

    async def running(self, before: datetime) -> set[BatchId]:
        """Return the batches that became durable before an instant and run; it may be seconds behind.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        until = before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        query = f"WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus = 'Running' AND StartTime < '{until}'"
        found = set()
        try:
            async for execution in self._client.list_workflows(query, page_size=_PAGE, rpc_timeout=_TIMEOUT):
                with suppress(ValueError):  # no gateway named it
                    found.add(batch_of_workflow_id(execution.id))
        except RPCError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return found
