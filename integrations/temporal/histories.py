"""Histories of one namespace: found in visibility, read whole, their payloads opened."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.client import Client, WorkflowHistory
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError, RPCStatusCode

from domain.errors import DomainError, ErrorCode
from domain.replay import Execution
from integrations.temporal.payloads import open_payloads

_TIMEOUT: Final = timedelta(seconds=10)  # of one page
_PAGE: Final = 500
_NO_SUCH: Final = {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}  # the latter of what is no run id


class Histories:
    """The executions of one namespace as they were recorded; reads and nothing else."""

    def __init__(self, client: Client, codec: PayloadCodec) -> None:
        """`codec` opens what its process may open; a key that it may not use is `key_unavailable`."""
        self._client = client
        self._codec = codec

    async def read(self, workflow_id: str, run_id: str = "") -> WorkflowHistory | None:
        """Return the history of a run, of the newest one without `run_id`; None where there is none any more.

        Raises:
            DomainError: `workflows_unavailable`, `key_destroyed`, `key_unavailable`.
        """
        history = await self.read_sealed(workflow_id, run_id)
        if history is not None:
            await open_payloads(history.events, self._codec)
        return history

    async def read_sealed(self, workflow_id: str, run_id: str = "") -> WorkflowHistory | None:
        """Return the same with its payloads as they are kept. Raises DomainError `workflows_unavailable`."""
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id or None)
        try:
            return await handle.fetch_history(rpc_timeout=_TIMEOUT)
        except RPCError as error:
            if error.status in _NO_SUCH:
                return None
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error

    def started(self, since: datetime, until: datetime, workflow_type: str = "") -> AsyncIterator[Execution]:
        """Return those that started at or after the one instant and before the other, as `find` does."""
        return self.find(started_query(since, until, workflow_type))

    async def find(self, query: str) -> AsyncIterator[Execution]:
        """Return the executions that a query of visibility finds, page by page; it may be seconds behind.

        Raises:
            DomainError: `workflows_unavailable`.
        """
        try:
            async for found in self._client.list_workflows(query, page_size=_PAGE, rpc_timeout=_TIMEOUT):
                events = found.history_length  # 0 while it is open
                yield Execution(found.id, found.run_id, found.workflow_type, found.start_time, events)
        except RPCError as error:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error


def started_query(since: datetime, until: datetime, workflow_type: str = "") -> str:
    """Return what visibility is asked for: executions of a period by their start, of one type or of all."""
    of_type = f" AND WorkflowType = '{workflow_type}'" if workflow_type else ""
    return f"StartTime >= '{_written(since)}' AND StartTime < '{_written(until)}'{of_type}"


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
