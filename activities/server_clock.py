"""Temporal's clock, which says when a vote was accepted."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import activity


def server_clock() -> Callable[[], datetime]:
    """Return what tells Temporal's time in this attempt: its word on when the attempt began, and a stopwatch since.

    The wall clock of a process, or of a database, may be an hour off; an end that it told would be, too.
    """
    started_at, began = activity.info().started_time, time.monotonic()
    return lambda: started_at + timedelta(seconds=time.monotonic() - began)
