"""Waiting for something, or for its time to be over, where either is good news."""

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow


async def within(condition: Callable[[], bool], time: timedelta) -> None:
    """Return when a condition holds, or when its time is over; at once where there is none."""
    if time <= timedelta():
        return
    try:
        await workflow.wait_condition(condition, timeout=time)
    except TimeoutError:
        return
