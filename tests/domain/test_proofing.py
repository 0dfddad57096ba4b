from datetime import date

import pytest

from domain.proofing import ProofingPolicy, age_on, canonical_document


@pytest.mark.parametrize("number", ["ab 12-34", "AB1234", "ab.12/34", "\uff21\uff22\uff11\uff12\uff13\uff14"])
def test_one_document_has_one_form(number: str):
    assert canonical_document(" fra", "Passport ", number) == canonical_document("FRA", "passport", "AB1234")


@pytest.mark.parametrize(
    ("country", "kind", "number"),
    [("FR", "passport", "1"), ("FRA", "", "1"), ("FRA", "passport", " -. "), ("FRA", "passport", "1" * 65)],
)
def test_what_is_no_document_is_refused_unquoted(country: str, kind: str, number: str):
    with pytest.raises(ValueError, match=r"^not a document$"):
        canonical_document(country, kind, number)


def test_a_number_is_not_shown():
    assert "AB1234" not in repr(canonical_document("FRA", "passport", "AB1234"))


@pytest.mark.parametrize(
    ("born_on", "today", "years"),
    [
        (date(2008, 2, 29), date(2026, 2, 28), 17),
        (date(2008, 2, 29), date(2026, 3, 1), 18),
        (date(2008, 2, 29), date(2024, 2, 29), 16),
        (date(2000, 5, 17), date(2018, 5, 17), 18),
    ],
)
def test_who_was_born_on_a_leap_day_comes_of_age_on_the_first_of_march(born_on: date, today: date, years: int):
    assert age_on(born_on, today) == years


def test_a_region_selects_its_provider():
    policy = ProofingPolicy(version=3, default="one", by_region={"DE": "two"})
    assert (policy.provider("DE"), policy.provider("FR")) == ("two", "one")
