"""Errors of the catalogue as a workflow raises them: final, expected, and no alert."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, ApplicationErrorCategory

with workflow.unsafe.imports_passed_through():
    from domain.errors import ErrorCode


def refused(code: ErrorCode, detail: str) -> ApplicationError:
    """Return a refusal; `detail` is shown to whoever asked."""
    return ApplicationError(detail, type=code.value, non_retryable=True, category=ApplicationErrorCategory.BENIGN)


def cause_of(error: ActivityError) -> ApplicationError:
    """Return the catalogue's error that made an activity fail for good; anything else is raised as it is."""
    if not isinstance(error.cause, ApplicationError):
        raise error
    return ApplicationError(
        error.cause.message, type=error.cause.type, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )
