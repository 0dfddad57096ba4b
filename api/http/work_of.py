"""What kind of work a request asks for, by method and path; lean routes say it themselves."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from domain.priorities import Work

_OPERATIONS: Final = frozenset({b"/livez", b"/readyz", b"/metrics"})
_LOGINS: Final = b"/v1/auth/logins"
_LOGIN_DEPTH: Final = 4  # below it: what is asked of one login that has begun
_FILES: Final = re.compile(rb"/v1/surveys/[^/]+/ballots/[^/]+\Z")
_READS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})


def work_of(method: bytes, path: bytes) -> Work:
    """Return the kind of work of a request that goes to the framework, by its path as the framework reads it."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    if path in _OPERATIONS:
        return Work.OPERATION
    if path.startswith(b"/v1/internal/"):
        return Work.MANAGEMENT
    if method in _READS:
        return Work.DOWNLOAD if _FILES.match(path) else Work.READ
    if path.startswith(_LOGINS):
        return Work.STEP_UP if path.count(b"/") > _LOGIN_DEPTH else Work.LOGIN
    return Work.ANSWER if b"/answers" in path else Work.MANAGEMENT
