"""Executions of a namespace that have ended, for the archive: listed by when, read as they are kept."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetWorkflowExecutionHistoryRequest,
    UpdateNamespaceRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.archive_ports import PLATFORM_ARCHIVE, SealedHistory
from domain.contracts.archive import ClosedExecution
from domain.errors import DomainError, ErrorCode
from integrations.temporal.events import kind_of
from integrations.temporal.payloads import has_readable

NEVER_ARCHIVED: Final = ("SubmitVotes",)  # pairs nullifiers with sealed ballots; its keys are destroyed after days
# Run by schedule every few minutes; what they did is in tree heads, files and notes
_UPKEEP: Final = ("ArchiveHistories", "SealAuditLog")
_TIMEOUT: Final = timedelta(seconds=10)  # of one call
_PAGE: Final = 500
_NOT_PERMITTED: Final = {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT}
_ENDS: Final = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}


def never_archived(archive: str) -> tuple[str, ...]:
    """Return the types of workflows that stay out of an archive, a cell's or the platform's."""
    return (*NEVER_ARCHIVED, *_UPKEEP) if archive == PLATFORM_ARCHIVE else NEVER_ARCHIVED


class TemporalClosedHistories:
    """Implements `ClosedHistories` for the namespace of a client; opens no payload and needs no key."""

    def __init__(self, client: Client, *, never: tuple[str, ...] = NEVER_ARCHIVED) -> None:
        """`never` are the types of workflows that are not listed."""
        self._client = client
        self._never = "".join(f" AND WorkflowType != '{name}'" for name in never)

    async def retention(self) -> timedelta:
        """Return for how long after its end the server keeps a history."""
        try:
            found = await self._client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=self._client.namespace), timeout=_TIMEOUT
            )
        except RPCError as error:
            raise _unavailable(error) from error
        kept: timedelta = found.config.workflow_execution_retention_ttl.ToTimedelta()
        return kept

    async def keep_for(self, retention: timedelta) -> bool:
        """Have the server keep so long what ends from now on, or return False where it does not let us.

        What has ended goes at the time that was set then.
        """
        kept = Duration()
        kept.FromTimedelta(retention)
        request = UpdateNamespaceRequest(
            namespace=self._client.namespace, config=NamespaceConfig(workflow_execution_retention_ttl=kept)
        )
        try:
            await self._client.workflow_service.update_namespace(request, timeout=_TIMEOUT)
        except RPCError as error:
            if error.status in _NOT_PERMITTED:
                return False
            raise _unavailable(error) from error
        return True

    async def count(self, after: datetime, until: datetime) -> int:
        """Return how many closed at or after the one instant and before the other; it may be seconds behind."""
        try:
            found = await self._client.count_workflows(self._query(after, until), rpc_timeout=_TIMEOUT)
        except RPCError as error:
            raise _unavailable(error) from error
        return found.count

    async def closed(self, after: datetime, until: datetime) -> AsyncIterator[ClosedExecution]:
        """Return those, in no order."""
        listed = self._client.list_workflows(self._query(after, until), page_size=_PAGE, rpc_timeout=_TIMEOUT)
        try:
            async for found in listed:
                if found.close_time is not None:
                    yield ClosedExecution(
                        workflow_id=found.id,
                        run_id=found.run_id,
                        workflow_type=found.workflow_type,
                        started_at=found.start_time,
                        closed_at=found.close_time,
                        size_bytes=found.raw_info.history_size_bytes,
                    )
        except RPCError as error:
            raise _unavailable(error) from error

    async def read(self, execution: ClosedExecution, *, may_be_open: bool = False) -> SealedHistory | None:
        """Return a history, its payloads as they are kept; None where it is gone.

        Raises:
            DomainError: `workflows_unavailable`, also where it has no end and is not one that `may_be_open`: the server
                lists it earlier than it has it.
        """
        history, token = History(), b""
        while True:
            request = GetWorkflowExecutionHistoryRequest(
                namespace=self._client.namespace,
                execution=WorkflowExecution(workflow_id=execution.workflow_id, run_id=execution.run_id),
                next_page_token=token,
            )
            try:
                page: Any = await self._client.workflow_service.get_workflow_execution_history(
                    request, retry=True, timeout=_TIMEOUT
                )
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return None
                raise _unavailable(error) from error
            history.events.extend(page.history.events)
            token = page.next_page_token
            if not token:
                break
        if not history.events or not (may_be_open or is_end(history.events[-1])):
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "a closed execution has no end yet")
        readable = next((kind_of(event) for event in history.events if has_readable(event)), "")
        return SealedHistory(history.SerializeToString(deterministic=True), readable)

    def _query(self, after: datetime, until: datetime) -> str:
        return f"CloseTime >= '{_instant(after)}' AND CloseTime < '{_instant(until)}'{self._never}"


def is_end(event: HistoryEvent) -> bool:
    """Tell whether an event is the last one that its execution has."""
    return event.event_type in _ENDS


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _unavailable(error: RPCError) -> DomainError:
    return DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name)
