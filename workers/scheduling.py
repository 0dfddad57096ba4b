"""Schedules that Temporal keeps through any outage of ours, and that get the input of the release that runs."""

from dataclasses import replace
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

NO_OFFSET = timedelta()


async def keep_schedule(
    client: Client,
    schedule_id: str,
    action: ScheduleActionStartWorkflow,
    *,
    every: timedelta,
    offset: timedelta = NO_OFFSET,
    made_up_for: timedelta | None = None,
) -> None:
    """Make a schedule where there is none; one that is there gets this action and stays otherwise as it is.

    Safe to repeat. One that still runs when the next is due makes that one fall out. What fell due while Temporal was
    away is made up for where that is not longer ago than `made_up_for`, by itself `every`.

    Raises:
        RPCError: Temporal did not answer, and the schedule may be there or not.
    """

    def with_this_action(found: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(replace(found.description.schedule, action=action))

    try:
        await client.create_schedule(
            schedule_id,
            Schedule(
                action=action,
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every, offset=offset)]),
                policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=made_up_for or every),
            ),
        )
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(schedule_id).update(with_this_action)
