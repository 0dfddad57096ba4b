"""Every ten minutes what has closed is archived: schedules that Temporal keeps through any outage of ours."""

from datetime import timedelta

import structlog
from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.service import RPCError

from domain.contracts.archive import ArchiveHistoriesInput
from domain.ids import archive_histories_workflow_id
from integrations.platform import AUDIT_QUEUE
from workers.scheduling import keep_schedule
from workflows.archive_histories import ArchiveHistoriesWorkflow

EVERY = timedelta(minutes=10)
_APART = timedelta(seconds=97)  # cells are not archived all at the same moment

log = structlog.get_logger()


async def schedule_archive(client: Client, cells: tuple[str, ...]) -> None:
    """Make the schedules that are missing; those that are there get this release's input. Safe to repeat.

    The platform counts as a cell.

    One that runs longer makes the next one fall out: it archives what closed meanwhile by the one after. Where Temporal
    does not answer, the next process to start makes them.
    """
    try:
        for number, cell in enumerate(sorted(cells)):
            await _schedule(client, cell, offset=_APART * number % EVERY)
    except RPCError as error:
        log.warning("archive_not_scheduled", error=error.status.name)


async def _schedule(client: Client, cell: str, *, offset: timedelta) -> None:
    schedule_id = archive_histories_workflow_id(cell, "scheduled")
    action = ScheduleActionStartWorkflow(
        ArchiveHistoriesWorkflow.run,
        ArchiveHistoriesInput(cell=cell),
        id=schedule_id,  # Temporal adds the instant
        task_queue=AUDIT_QUEUE,
    )

    await keep_schedule(client, schedule_id, action, every=EVERY, offset=offset)
