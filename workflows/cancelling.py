"""Long work that staff may cancel: a step that is under way is dropped, whatever it waits for."""

from collections.abc import Callable
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

T = TypeVar("T")


async def unless(is_cancelled: Callable[[], bool], step: workflow.ActivityHandle[T]) -> T | None:
    """Return what came of a step that has begun, or None, and the step cancelled, where nobody wants it any more.

    It is not waited for: an activity that waits out an outage would keep whoever cancels waiting as well.
    """
    await workflow.wait_condition(lambda: step.done() or is_cancelled())
    if not step.done():
        step.cancel()
    try:
        return await step
    except ActivityError as error:
        if is_cancelled() and is_cancelled_exception(error):
            return None
        raise
