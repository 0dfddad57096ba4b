from datetime import UTC, datetime, timedelta

import pytest

from domain.draining import (
    CLOCKS_AGREE_WITHIN,
    BatchExecution,
    ClosingWindow,
    Finding,
    GatewayRows,
    Suspects,
    judge,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=1)
WINDOW = ClosingWindow(START, END, END + timedelta(minutes=1))
TICK = timedelta(microseconds=1)


def execution(started_at: datetime, *, is_open: bool = True) -> BatchExecution:
    return BatchExecution(started_at, is_open, "running" if is_open else "completed")


@pytest.mark.parametrize(
    ("found", "meaning"),
    [
        (None, Finding.HARMLESS),
        (execution(END), Finding.HARMLESS),
        (execution(END + TICK), Finding.HARMLESS),
        (execution(START - TICK), Finding.HARMLESS),
        (execution(START), Finding.AWAITED),
        (execution(END - TICK), Finding.AWAITED),
        (execution(END - TICK, is_open=False), Finding.ENDED),
        (execution(START, is_open=False), Finding.ENDED),
    ],
)
def test_what_an_unrecorded_number_means(found: BatchExecution | None, meaning: Finding) -> None:
    assert judge(found, WINDOW) is meaning


def test_holes_and_as_many_numbers_above_as_may_be_in_flight_are_asked_for() -> None:
    assert list(Suspects(GatewayRows(b"g", 1, 7))) == [8]
    assert list(Suspects(GatewayRows(b"g", 3, 7, (2, 5)))) == [2, 5, 8, 9, 10]
    assert list(Suspects(GatewayRows(b"g", 2, 0))) == [1, 2]


def test_an_execution_that_ended_above_the_highest_number_was_in_flight_no_longer() -> None:
    suspects, taken = Suspects(GatewayRows(b"g", 2, 4, (3,))), []
    for number in suspects:
        taken.append(number)
        if number in {3, 5}:  # the hole is none of those above
            suspects.ended()
    assert taken == [3, 5, 6, 7]


@pytest.mark.parametrize(("after", "passed"), [(timedelta(0), False), (CLOCKS_AGREE_WITHIN + TICK, True)])
def test_an_end_has_passed_once_no_clock_of_the_cell_can_be_before_it(after: timedelta, passed: bool) -> None:  # noqa: FBT001
    long_after = END + timedelta(hours=1)
    assert ClosingWindow(START, END, END + after).has_passed(long_after) is passed
    assert ClosingWindow(START, END, long_after).has_passed(END + after) is passed


def test_what_has_no_end_never_passes() -> None:
    assert not ClosingWindow(START, None, END).has_passed(END)
