"""Every run of a workflow that there is: what is archived of it, and what the server has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from domain.archive_ports import HistoryPlace
from domain.contracts.archive import ClosedExecution
from domain.errors import DomainError, ErrorCode

_TIMEOUT: Final = timedelta(seconds=10)  # of one call


class ArchivedRuns(Protocol):
    """Which runs of a workflow are archived, and where. Raises DomainError `audit_log_unavailable`."""

    async def runs(self, workflow_id: str) -> Sequence[tuple[HistoryPlace, datetime]]:
        """Return where each is, and when it started, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One run; `place` is of what is archived, and `is_open` says that it has not ended yet."""

    execution: ClosedExecution
    place: HistoryPlace | None
    is_open: bool = False


class Runs:
    """The runs of one namespace's workflows; asks no process anything."""

    def __init__(self, client: Client, archived: ArchivedRuns) -> None:
        self._client = client
        self._archived = archived

    async def of(self, workflow_id: str) -> list[Run]:
        """Return the runs of a workflow, oldest first.

        Raises:
            DomainError: `workflows_unavailable`, `audit_log_unavailable`.
        """
        runs = {
            place.run_id: Run(_execution(workflow_id, place.run_id, place.workflow_type, started), place)
            for place, started in await self._archived.runs(workflow_id)
        }
        for each in await self._on_server(workflow_id):
            is_open = each.status is WorkflowExecutionStatus.RUNNING
            here = Run(_execution(each.id, each.run_id, each.workflow_type, each.start_time), None, is_open)
            runs.setdefault(each.run_id, here)
        return sorted(runs.values(), key=lambda run: (run.execution.started_at, run.execution.run_id))

    async def _on_server(self, workflow_id: str) -> list[WorkflowExecution]:
        """Return the runs that the server has: the newest asked for by id, the others as visibility lists them."""
        try:
            newest = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=_TIMEOUT)
            listed = self._client.list_workflows(f"WorkflowId = '{workflow_id}'", rpc_timeout=_TIMEOUT)
            others = [each async for each in listed if each.run_id != newest.run_id]
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, error.status.name) from error
        return [newest, *others]


def _execution(workflow_id: str, run_id: str, workflow_type: str, started_at: datetime) -> ClosedExecution:
    return ClosedExecution(
        workflow_id=workflow_id,
        run_id=run_id,
        workflow_type=workflow_type,
        started_at=started_at.astimezone(UTC),
        closed_at=started_at.astimezone(UTC),
    )
