from itertools import pairwise

from api.http.request_ids import RequestIds


def test_each_id_is_new_and_no_two_of_a_process_have_anything_in_common() -> None:
    ids = RequestIds()
    made = [ids.accept(None) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {len(one) for one in made} == {32}
    for width in range(8, 33, 8):  # no beginning and no end is that of the process
        assert len({one[:width] for one in made}) > 990
        assert len({one[-width:] for one in made}) > 990
    steps = {int(after, 16) - int(before, 16) for before, after in pairwise(made)}
    assert len(steps) > 990


def test_another_process_makes_others() -> None:
    assert RequestIds().accept(None) != RequestIds().accept(b"short")
