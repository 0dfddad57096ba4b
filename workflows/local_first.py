"""The one way to be both fast and stubborn."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception
from temporalio.workflow import ActivityConfig

from workflows.policies import LOCAL_LIMIT

with workflow.unsafe.imports_passed_through():
    from pydantic import BaseModel

_LOCAL_RETRY = timedelta(milliseconds=50)

Request = TypeVar("Request", bound=BaseModel)
Result = TypeVar("Result")


async def local_then_regular(
    activity: Callable[[Any, Request], Awaitable[Result]],
    request: Request,
    policy: ActivityConfig,
    *,
    attempts: int = 0,
) -> Result:
    """Run an activity in the worker at once, and where that does not succeed within 2 s, as a regular one.

    The regular one has the policy's patience. `attempts` bounds the local tries (0: as many as fit into the 2 s).
    A failure that is final is raised from either.
    """
    try:
        return await workflow.execute_local_activity_method(
            activity,
            request,
            start_to_close_timeout=LOCAL_LIMIT,
            schedule_to_close_timeout=LOCAL_LIMIT,
            retry_policy=RetryPolicy(maximum_attempts=attempts, initial_interval=_LOCAL_RETRY),
        )
    except FailureError as error:  # a local activity's own failure comes bare, a time-out as an ActivityError
        if is_cancelled_exception(error) or is_final(error):
            raise
    return await workflow.execute_activity_method(activity, request, **policy)


def is_final(error: FailureError) -> bool:
    """Tell whether an activity failed for good: an error of the catalogue that no retry helps."""
    cause = error.cause if isinstance(error, ActivityError) else error
    return isinstance(cause, ApplicationError) and cause.non_retryable
