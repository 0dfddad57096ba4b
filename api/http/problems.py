"""Every error as a problem document (RFC 9457) with a stable `code`; the one place where errors meet HTTP."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from domain.errors import CATALOGUE, ErrorCode

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
PROBLEM_CONTENT_TYPE: Final = b"application/problem+json"
DEFAULT_RETRY_AFTER_S: Final = 1
BY_STATUS: Final = {  # what a framework's own refusal means in our catalogue
    400: ErrorCode.MALFORMED_REQUEST,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    408: ErrorCode.REQUEST_TIMEOUT,
    412: ErrorCode.PRECONDITION_FAILED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    422: ErrorCode.MALFORMED_REQUEST,
    429: ErrorCode.RATE_LIMITED,
    431: ErrorCode.HEADERS_TOO_LARGE,
    503: ErrorCode.OVERLOADED,
}
_CHALLENGES: Final = {  # RFC 6750 section 3, RFC 9449 section 7.1
    ErrorCode.UNAUTHENTICATED: "Bearer, DPoP",
    ErrorCode.PROOF_INVALID: 'DPoP error="invalid_dpop_proof"',
}
_OTHER_CHALLENGE: Final = 'Bearer error="invalid_token", DPoP error="invalid_token"'
_encode: Final = msgspec.json.Encoder().encode


def problem_document(
    code: ErrorCode,
    detail: str = "",
    *,
    request_id: str = "",
    errors: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    """Return the members of a problem; empty ones are left out."""
    spec = CATALOGUE[code]
    document: dict[str, Any] = {
        "type": f"urn:comitia:problem:{code}",
        "title": spec.title,
        "status": spec.status,
        "code": str(code),
    }
    optional = {"detail": detail, "requestId": request_id, "errors": list(errors)}
    document.update({name: value for name, value in optional.items() if value})
    return document


def problem_headers(code: ErrorCode, retry_after_s: int | None = None) -> dict[str, str]:
    """Return the headers that belong to a code: `Retry-After` where trying again can help, a challenge on 401."""
    spec = CATALOGUE[code]
    headers: dict[str, str] = {}
    if retry_after_s is None and spec.retryable:
        retry_after_s = DEFAULT_RETRY_AFTER_S
    if retry_after_s is not None:
        headers["retry-after"] = str(retry_after_s)
    if spec.status == 401:  # noqa: PLR2004
        headers["www-authenticate"] = _CHALLENGES.get(code, _OTHER_CHALLENGE)
    return headers


def problem_bytes(
    code: ErrorCode,
    detail: str = "",
    *,
    retry_after_s: int | None = None,
    request_id: str = "",
    errors: Sequence[dict[str, str]] = (),
) -> tuple[int, bytes, bytes]:
    """Return status, header lines and body of a problem, ready for `LeanRequest.respond`."""
    document = problem_document(code, detail, request_id=request_id, errors=errors)
    lines = "".join(f"{name}: {value}\r\n" for name, value in problem_headers(code, retry_after_s).items())
    return CATALOGUE[code].status, lines.encode("ascii"), _encode(document)
