from domain.priorities import RULES, Work


def test_every_kind_of_work_has_a_rule_and_the_less_important_is_refused_sooner() -> None:
    assert list(RULES) == list(Work)
    delays = [RULES[work].delay_max_s for work in Work]
    assert delays == sorted(delays, reverse=True)
    assert len(set(delays)) == len(delays)


def test_the_order_that_was_asked_for() -> None:
    order = [Work.VOTE, Work.ANSWER, Work.READ]
    assert sorted(order, key=list(Work).index) == order
    assert RULES[Work.STEP_UP].delay_max_s > RULES[Work.LOGIN].delay_max_s
    assert RULES[Work.OPERATION].delay_max_s == float("inf")


def test_only_what_leaves_nothing_half_done_is_stopped_half_way() -> None:
    assert {work for work in Work if RULES[work].abandonable} == {Work.ANSWER, Work.LOGIN, Work.READ, Work.DOWNLOAD}
    assert {work for work in Work if RULES[work].ends_with_input} == {Work.LOGIN}
