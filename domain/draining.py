"""When a cell is drained: no batch from before the end can be recorded any more that is not recorded already.

A gateway numbers its batches without holes and starts one only while fewer than `in_flight` of its batches are not
recorded. So a batch that runs unrecorded has a number at most `in_flight` above the highest recorded one, or it is a
hole below. Each of these numbers is asked for by the id of its execution (a listing lags and proves nothing):

- it is not there: it was never started. If it is started later, Temporal makes it durable after the end, and its votes
  are outside the window, whatever its gateway thought. The same holds for whatever live gateways start from now on.
- it was made durable outside the window: its votes for this survey are refused.
- it runs: it will be recorded, and is waited for.
- it ended and the ledger has no row: an accepted batch was lost. That is a difference, and nothing is sealed.

An execution that was retained no longer ended long ago: recorded, or named by an earlier check.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

CLOCKS_AGREE_WITHIN = timedelta(seconds=2)  # the cell's database and its Temporal; beyond it a late vote is a fault
BATCHES_IN_FLIGHT_MAX = 64  # of one gateway: the most that a setting allows


@dataclass(frozen=True, slots=True)
class ClosingWindow:
    """The window of a survey in one cell, and what the clock of its database says."""

    start_at: datetime | None
    finish_at: datetime | None
    now: datetime

    def has_passed(self, at: datetime) -> bool:
        """Tell whether nothing that becomes durable from now on can be inside; `at` is what Temporal's clock says.

        By both: one that is ahead would have a cell drained while votes are accepted in it.
        """
        return self.finish_at is not None and min(at, self.now) > self.finish_at + CLOCKS_AGREE_WITHIN

    def is_off(self, at: datetime) -> bool:
        """Tell whether the two clocks differ by more than they may."""
        return abs(at - self.now) > CLOCKS_AGREE_WITHIN


@dataclass(frozen=True, slots=True)
class GatewayRows:
    """What the ledger has of one gateway: its highest recorded number (0: none) and the holes below."""

    gateway_id: bytes
    in_flight: int
    highest: int
    holes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchExecution:
    """The execution of a batch: when it became durable, and whether it runs."""

    started_at: datetime
    is_open: bool
    status: str


class Finding(Enum):
    """What one unrecorded number means for the drain."""

    HARMLESS = "harmless"  # never started, or outside the window
    AWAITED = "awaited"
    ENDED = "ended"  # it has a row by now, or it is lost


def judge(execution: BatchExecution | None, window: ClosingWindow) -> Finding:
    """Say what the execution of an unrecorded number means; None is one that is not there."""
    assert window.finish_at is not None
    if execution is None or execution.started_at >= window.finish_at:
        return Finding.HARMLESS
    if window.start_at is None or execution.started_at < window.start_at:
        return Finding.HARMLESS
    return Finding.AWAITED if execution.is_open else Finding.ENDED


class Suspects:
    """The unrecorded numbers of a gateway that have to be asked for; tell it what was found before taking the next.

    An execution that ended without a row was in flight no longer, so it does not count among the `in_flight` above the
    highest number.
    """

    def __init__(self, gateway: GatewayRows) -> None:
        self._gateway = gateway
        self._ended = 0

    def ended(self) -> None:
        """Hear that the number taken last ended without a row."""
        self._ended += 1

    def __iter__(self) -> Iterator[int]:
        """Take the holes, then the numbers above the highest."""
        yield from self._gateway.holes
        self._ended = 0
        above = 0
        while above < self._gateway.in_flight + self._ended:
            above += 1
            yield self._gateway.highest + above
