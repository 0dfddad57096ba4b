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

# 50, 100, ... 800 ms between them: within the limit. The SDK ends only an attempt that runs at the limit, not a row
# of quick failures; those would go on for as long as the outage and fill the history until the server ends it.
_LOCAL_RETRY, _LOCAL_ATTEMPTS = timedelta(milliseconds=50), 6

Request = TypeVar("Request", bound=BaseModel)
Result = TypeVar("Result")


async def local_then_regular(
    activity: Callable[[Any, Request], Awaitable[Result]],
    request: Request,
    policy: ActivityConfig,
    *,
    attempts: int = _LOCAL_ATTEMPTS,
) -> Result:
    """Run an activity in the worker at once, and where that does not succeed within 2 s, as a regular one.

    The regular one has the policy's patience. `attempts` bounds the local tries.
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
