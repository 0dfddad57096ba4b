"""The periods that officers ask about."""

from datetime import UTC, datetime

from domain.errors import DomainError, ErrorCode


def require_past(since: datetime, until: datetime) -> None:
    """Let a period pass that is not empty and is over: what comes later would be in one answer and not in the next.

    Raises:
        DomainError: `malformed_request`.
    """
    if not since < until <= datetime.now(UTC):
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "from: before `to`, and both are past")
