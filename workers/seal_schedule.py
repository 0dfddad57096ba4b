"""Once a minute every audit log is sealed: schedules that Temporal keeps through any outage of ours."""

from datetime import timedelta

import structlog
from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.service import RPCError

from domain.contracts.audit import SealAuditLogInput
from domain.ids import seal_audit_log_workflow_id
from integrations.platform import AUDIT_QUEUE
from workers.scheduling import keep_schedule
from workflows.seal_audit_log import SealAuditLogWorkflow

EVERY = timedelta(minutes=1)
_APART = timedelta(seconds=7)  # logs are not sealed all at the same moment

log = structlog.get_logger()


async def schedule_sealing(client: Client, logs: tuple[str, ...]) -> None:
    """Make the schedules that are missing; those that are there get this release's input. Safe to repeat.

    One that runs longer than a minute makes the next one fall out: it seals what came meanwhile by the one after. Where
    Temporal does not answer, the next process to start makes them.
    """
    try:
        for number, name in enumerate(sorted(logs)):
            await _schedule(client, name, offset=_APART * number % EVERY)
    except RPCError as error:
        log.warning("sealing_not_scheduled", error=error.status.name)


async def _schedule(client: Client, name: str, *, offset: timedelta) -> None:
    schedule_id = seal_audit_log_workflow_id(name, "scheduled")
    action = ScheduleActionStartWorkflow(
        SealAuditLogWorkflow.run,
        SealAuditLogInput(log=name),
        id=schedule_id,  # Temporal adds the instant
        task_queue=AUDIT_QUEUE,
    )

    await keep_schedule(client, schedule_id, action, every=EVERY, offset=offset)
