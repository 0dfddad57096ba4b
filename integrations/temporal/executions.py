"""The executions of a cell's batches, asked for by id: what Temporal says of one is never behind."""

from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from domain.draining import BatchExecution
from domain.errors import DomainError, ErrorCode
from domain.ids import BatchId, submit_votes_workflow_id

_TIMEOUT = timedelta(seconds=5)


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
