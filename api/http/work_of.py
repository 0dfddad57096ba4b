"""What kind of work a request asks for, by method and path; lean routes say it themselves."""

from typing import Final

from domain.priorities import Work

_OPERATIONS: Final = frozenset({b"/livez", b"/readyz", b"/metrics"})
_READS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})


def work_of(method: bytes, path: bytes) -> Work:
    """Return the kind of work of a request that goes to the framework."""
    if path in _OPERATIONS:
        return Work.OPERATION
    if path.startswith(b"/v1/internal/"):
        return Work.MANAGEMENT
    if method in _READS:
        return Work.READ
    return Work.ANSWER if b"/answers" in path else Work.MANAGEMENT
