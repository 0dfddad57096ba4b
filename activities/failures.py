"""Turns refusals and failures of the catalogue into Temporal's, and nothing else does."""

from datetime import timedelta
from http import HTTPStatus

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from domain.errors import DomainError


def to_application_error(error: DomainError) -> ApplicationError:
    """Return the application error whose `type` is the code; final ones of the 4xx kind are benign (no alert).

    Where the error says when to come back, the next attempt is made then.
    """
    spec = error.spec
    final_and_expected = not spec.retryable and spec.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return ApplicationError(
        error.detail or spec.title,
        type=error.code.value,
        non_retryable=not spec.retryable,
        next_retry_delay=timedelta(seconds=error.retry_after_s) if error.retry_after_s else None,
        category=ApplicationErrorCategory.BENIGN if final_and_expected else ApplicationErrorCategory.UNSPECIFIED,
    )
