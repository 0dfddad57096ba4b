"""Quantiles of decisions, of which a histogram says how many were within which bounds."""

from benchmarks.logging_in import Sent

INF = float("inf")


def sent(within: dict[float, float]) -> Sent:
    return Sent(answers=[(200, 12.0), (503, 3.0), (200, 8.0)], seconds=2.0, cpu_s={"api-auth": 0.02}, within=within)


def test_a_quantile_is_inside_the_bucket_that_it_is_in() -> None:
    decided = sent({0.1: 90.0, 0.2: 100.0, INF: 100.0})
    assert decided.decisions == 100
    assert round(decided.decision_ms(0.5), 6) == round(100 * 50 / 90, 6)
    assert decided.decision_ms(0.9) == 100
    assert round(decided.decision_ms(0.99), 6) == 190


def test_beyond_the_last_bound_it_is_that_bound_and_of_nothing_it_is_nothing() -> None:
    assert sent({0.1: 0.0, 5.0: 10.0, INF: 20.0}).decision_ms(0.99) == 5000
    assert sent({0.1: 0.0, INF: 0.0}).decision_ms(0.99) == 0
    assert sent({}).decisions == 0


def test_what_a_load_cost_is_told_for_each_who_was_let_in() -> None:
    load = sent({})
    assert (load.rate, load.waits(200), load.waits(503)) == (1.0, [8.0, 12.0], [3.0])
    assert load.summary == "p50 12 ms; answers {200: 2, 503: 1}; ms of CPU per login: api-auth 10.0"
