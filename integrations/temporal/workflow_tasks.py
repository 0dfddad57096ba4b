"""Failures of a process's own code: a task of a workflow that fails is tried for ever, and nothing else goes on."""

from typing import Final

from temporalio.api.enums.v1 import TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

TIMED_OUT: Final = "timed_out"
_CAUSE: Final = "WORKFLOW_TASK_FAILED_CAUSE_"
# The server's own: something came while a task was under way, or somebody reset or ended the process
_NO_FAULTS: Final = frozenset(
    {
        "unhandled_command",
        "unhandled_update",
        "reset_sticky_task_queue",
        "reset_workflow",
        "force_close_command",
        "failover_close_command",
        "workflow_pause_requested_before_task_started",
    }
)


def task_code_of(event: HistoryEvent) -> str:
    """Return why a task of a workflow failed: Temporal's cause, `non_deterministic_error`, or `timed_out`.

    Of another event, and of what is no fault of the code or of its worker, nothing. The text of a failure is never
    looked at.
    """
    if event.HasField("workflow_task_timed_out_event_attributes"):
        kind = event.workflow_task_timed_out_event_attributes.timeout_type
        return TIMED_OUT if kind == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE else ""
    if not event.HasField("workflow_task_failed_event_attributes"):
        return ""
    cause = event.workflow_task_failed_event_attributes.cause
    code = WorkflowTaskFailedCause.Name(cause).removeprefix(_CAUSE).lower()
    return "" if code in _NO_FAULTS else code
