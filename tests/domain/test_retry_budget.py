from domain.retry_budget import RetryBudget


def test_a_few_failures_are_retried_at_once() -> None:
    budget = RetryBudget(share=0.1, reserve=3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]


def test_when_everything_fails_retries_are_a_share_of_requests() -> None:
    budget = RetryBudget(share=0.1, reserve=10)
    retried = 0
    for _ in range(1000):
        budget.requested()
        retried += budget.spend()
    assert 100 <= retried <= 110


def test_quiet_times_do_not_save_up_for_a_storm() -> None:
    budget = RetryBudget(share=0.1, reserve=5)
    for _ in range(1000):
        budget.requested()
    assert sum(budget.spend() for _ in range(100)) == 5
