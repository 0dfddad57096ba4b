"""The deadline of the request that is being worked on, for every call that is made on its behalf.

It travels with the context, as a trace does: set once where the request comes in, read where a client is about to
wait for somebody else.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from domain.errors import DomainError, ErrorCode

_DEADLINE: ContextVar[float] = ContextVar("deadline", default=float("inf"))  # of the monotonic clock


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Let everything in the block know that nobody waits after `deadline` (of `time.monotonic()`)."""
    token = _DEADLINE.set(deadline)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def current_deadline() -> float:
    """Return when the caller stops waiting, of `time.monotonic()`; infinite where nobody said."""
    return _DEADLINE.get()


def within(limit_s: float) -> float:
    """Return how long a call may take: `limit_s`, or less where the caller waits for less.

    Raises:
        DomainError: `deadline_exceeded`; the caller no longer waits, so the call is not worth making.
    """
    left_s = min(limit_s, _DEADLINE.get() - time.monotonic())
    if left_s <= 0:
        raise DomainError(ErrorCode.DEADLINE_EXCEEDED)
    return left_s
