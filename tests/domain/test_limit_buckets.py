"""One process's buckets, by a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.limit_buckets import SHARE_LEAST, Buckets, Owed
from domain.limits import Policy, Subject

TEN_A_MINUTE = Policy("test", Subject.TOKEN, 10, 60)


@pytest.fixture
def queue() -> list[Owed]:
    return []


@pytest.fixture
def buckets(queue: list[Owed]) -> Buckets:
    return Buckets(TEN_A_MINUTE, queue)


def taken(buckets: Buckets, times: int, now: float, subject: str = "a") -> int:
    return sum(buckets.take(subject, now) >= 0 for _ in range(times))


def test_the_quota_at_once_then_one_per_interval(buckets: Buckets) -> None:
    assert taken(buckets, 30, 1000.0) == 10
    assert buckets.take("a", 1000.0) == pytest.approx(-6.0)
    assert buckets.take("a", 1004.0) == pytest.approx(-2.0)
    assert buckets.take("a", 1006.0) == pytest.approx(60.0)
    assert buckets.take("a", 1006.0) < 0
    assert taken(buckets, 30, 1006.0, "b") == 10
    assert taken(buckets, 30, 5000.0) == 10  # never more than the quota, however long nobody asked


def test_a_clock_that_stands_or_steps_back_permits_nothing_more(buckets: Buckets) -> None:
    assert taken(buckets, 10, 1000.0) == 10
    assert taken(buckets, 10, 0.0) == 0


def test_what_is_left_is_told(buckets: Buckets) -> None:
    assert buckets.left("a", 1000.0) == pytest.approx(6.0)
    assert [buckets.remaining(buckets.take("a", 1000.0)) for _ in range(10)] == list(range(9, -1, -1))
    assert buckets.left("a", 1000.0) == pytest.approx(-6.0)
    assert buckets.remaining(buckets.take("a", 1030.0)) == 4


def test_a_first_request_is_told_with_the_second_and_each_bucket_once(buckets: Buckets, queue: list[Owed]) -> None:
    buckets.take("a", 1000.0)
    assert queue == []
    for _ in range(4):
        buckets.take("a", 1000.0)
    (_, subject, bucket) = queue.pop()
    assert (subject, queue) == ("a", [])
    assert buckets.tell(bucket) == pytest.approx(5 * 6.0)
    assert buckets.tell(bucket) == 0
    buckets.take("a", 1001.0)
    assert [subject for _, subject, _ in queue] == ["a"]


def test_what_others_took_is_taken_over_and_what_was_taken_meanwhile_is_kept(
    buckets: Buckets, queue: list[Owed]
) -> None:
    taken(buckets, 2, 1000.0)
    _, _, bucket = queue.pop()
    buckets.tell(bucket)
    buckets.take("a", 1000.0)  # while the store is asked
    buckets.learn(bucket, 1000.0, 7 * 6.0, 1000.0)  # five of others
    assert taken(buckets, 10, 1000.0) == 2


def test_a_store_that_forgot_forgives_nobody(buckets: Buckets, queue: list[Owed]) -> None:
    taken(buckets, 10, 1000.0)
    _, _, bucket = queue.pop()
    buckets.tell(bucket)
    buckets.learn(bucket, 1000.0, 0.0, 1000.0)
    assert taken(buckets, 10, 1000.0) == 0


def test_one_of_many_takes_its_share_and_a_handful_at_least() -> None:
    queue: list[Owed] = []
    buckets = Buckets(Policy("test", Subject.ADDRESS, 1000, 10), queue)
    buckets.share_with(4)
    assert taken(buckets, 2000, 1000.0) == 250
    _, _, bucket = queue.pop()
    buckets.tell(bucket)
    buckets.learn(bucket, 1000.0, 400 * 0.01, 1000.0)  # 600 are left for all
    assert taken(buckets, 2000, 1000.0) == 150
    buckets.share_with(1)  # nobody else is there: nothing is withheld
    assert taken(buckets, 2000, 1000.0) == 450
    few = Buckets(TEN_A_MINUTE, [])
    few.share_with(1000)
    assert taken(few, 20, 1000.0) == SHARE_LEAST


def test_what_is_owed_flows_in_before_anything_is_permitted(buckets: Buckets, queue: list[Owed]) -> None:
    taken(buckets, 2, 1000.0)
    _, _, bucket = queue.pop()
    buckets.tell(bucket)
    buckets.learn(bucket, 1000.0, 20 * 6.0, 1000.0)  # together, twice the quota was let through
    assert buckets.take("a", 1060.0) < 0
    assert buckets.take("a", 1066.0) >= 0


def test_many_subjects_do_not_grow_it_and_the_busy_ones_stay() -> None:
    buckets = Buckets(TEN_A_MINUTE, [], kept_max=100)
    assert taken(buckets, 10, 1000.0, "busy") == 10
    for number in range(10_000):
        assert buckets.take(str(number), 1000.0) > 0
        assert buckets.take("busy", 1000.0) < 0
    assert len(buckets) <= 100


def test_a_store_whose_clock_was_wrong_keeps_nobody_out_for_that_long(buckets: Buckets, queue: list[Owed]) -> None:
    taken(buckets, 2, 1000.0)
    _, _, bucket = queue.pop()
    buckets.tell(bucket)
    buckets.learn(bucket, 1000.0, 3600.0 + 2 * 6.0, 1000.0)
    assert buckets.take("a", 1001.0) < 0
    assert buckets.take("a", 1000.0 + 4 * 60.0) >= 0


_STEPS = st.tuples(st.integers(0, 3), st.integers(0, 30), st.floats(0.0, 20.0), st.booleans())


@given(st.integers(1, 4), st.lists(_STEPS, max_size=40))
def test_what_processes_owe_together_is_taken_over_whole(count: int, steps: list[tuple[int, int, float, bool]]) -> None:
    """None knows of another one, so each lets a whole quota through; each tells once a window at least."""
    queues: list[list[Owed]] = [[] for _ in range(count)]
    processes = [Buckets(TEN_A_MINUTE, queue) for queue in queues]
    now, full_at = 1000.0, 0.0

    def tell(number: int) -> None:
        nonlocal full_at
        for buckets, _, bucket in queues[number]:
            full_at = max(full_at, now) + buckets.tell(bucket)
            buckets.share_with(count)
            buckets.learn(bucket, now, full_at - now, now)
            assert bucket.full_at >= full_at - 1e-6
        queues[number].clear()

    for number, times, later_s, told in steps:
        taken(processes[number % count], times, now)
        if told:
            tell(number % count)
        now += later_s
    for number in range(count):
        tell(number)
