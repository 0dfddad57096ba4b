"""Sumsub's error bodies."""

import secrets
from typing import Any, Final

NAMES: Final = {
    1000: "duplicate-document",
    1003: "empty-file",
    1008: "applicant-marked-as-deleted",
    1009: "applicant-with-final-reject",
    3000: "applicant-already-in-the-state",
    4000: "app-token-invalid-format",
    4001: "app-token-not-found",
    4003: "app-token-signature-mismatch",
    4004: "app-token-request-expired",
    4006: "app-token-header-missing",
}


class SandboxError(Exception):
    """A refusal in Sumsub's form."""

    def __init__(self, status: int, description: str, error_code: int | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.error_code = error_code


def error_body(status: int, description: str = "Something went wrong", error_code: int | None = None) -> dict[str, Any]:
    """Return the JSON of an error."""
    body = {"description": description, "code": status, "correlationId": secrets.token_hex(16)}
    if error_code is None:
        return body
    return {**body, "errorCode": error_code, "errorName": NAMES[error_code]}
