"""What a client takes while it is waited for, by a clock of the test's own."""

from api.http.unread import Unread

WINDOW_S, LEAST = 10.0, 100.0


def slow(unread: Unread, now: float, unsent: int) -> bool:
    return unread.too_slow(now, unsent, window_s=WINDOW_S, bytes_per_s=LEAST)


def test_whoever_takes_nothing_is_too_slow_after_a_window_and_not_before() -> None:
    unread = Unread()
    unread.wait(1000.0, 5000)
    assert not slow(unread, 1010.0, 5000)
    assert slow(unread, 1010.1, 5000)


def test_whoever_takes_enough_goes_on_for_ever_and_is_ended_once_it_stops() -> None:
    unread = Unread()
    unread.wait(1000.0, 100_000)
    for second in range(1, 500):
        assert not slow(unread, 1000.0 + second, 100_000 - 150 * second)
    assert any(slow(unread, 1499.0 + second, 25_150) for second in range(1, 23))


def test_waits_with_a_little_between_them_count_together() -> None:
    unread, now = Unread(), 1000.0
    for _ in range(3):
        unread.wait(now, 500)
        assert not slow(unread, now + 1.0, 400)
        unread.go_on(now + 3.0, 300)
        now += 3.0
    unread.wait(now, 500)
    assert slow(unread, now + 2.0, 500)


def test_a_server_that_is_slow_itself_ends_nobody() -> None:
    unread = Unread()
    for minute in range(100):
        unread.wait(1000.0 + 60 * minute, 500)
        assert not slow(unread, 1000.25 + 60 * minute, 350)
        unread.go_on(1000.5 + 60 * minute, 200)
