from datetime import date

import pytest

from domain.proofing import Document, ProofingPolicy, age_on


def test_a_number_is_not_shown() -> None:
    assert "AB1234" not in repr(Document("FRA", "passport", "AB1234"))


@pytest.mark.parametrize(
    ("born_on", "today", "years"),
    [
        (date(2008, 2, 29), date(2026, 2, 28), 17),
        (date(2008, 2, 29), date(2026, 3, 1), 18),
        (date(2008, 2, 29), date(2024, 2, 29), 16),
        (date(2000, 5, 17), date(2018, 5, 17), 18),
    ],
)
def test_who_was_born_on_a_leap_day_comes_of_age_on_the_first_of_march(born_on: date, today: date, years: int) -> None:
    assert age_on(born_on, today) == years


def test_a_region_selects_its_provider() -> None:
    policy = ProofingPolicy(version=3, default="one", by_region={"DE": "two"})
    assert (policy.provider("DE"), policy.provider("FR")) == ("two", "one")
