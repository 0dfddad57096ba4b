"""Turns refusals and failures of the catalogue into Temporal's, and nothing else does."""

from http import HTTPStatus

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from domain.errors import DomainError


def to_application_error(error: DomainError) -> ApplicationError:
    """Return the application error whose `type` is the code; final ones of the 4xx kind are benign (no alert)."""
    spec = error.spec
    final_and_expected = not spec.retryable and spec.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return ApplicationError(
        error.detail or spec.title,
        type=error.code.value,
        non_retryable=not spec.retryable,
        category=ApplicationErrorCategory.BENIGN if final_and_expected else ApplicationErrorCategory.UNSPECIFIED,
    )
