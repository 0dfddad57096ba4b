"""Rows of a roll, and whom they name."""

import pytest

from domain.ids import new_voter_id
from domain.proofing import Document
from domain.rolls import RollEntry, check_columns, entry_of


def test_a_row_names_a_voter_or_a_document() -> None:
    voter = new_voter_id("eu")
    document = {"country": "deu", "kind": "Passport", "number": "c01-x00 t47"}
    assert entry_of({"voter_id": f" {voter} ", **document}) == RollEntry(voter_id=voter)
    named = RollEntry(document=Document("DEU", "passport", "C01X00T47"))
    assert entry_of({"voter_id": "", **document}) == entry_of({**document, "name": "Anna"}) == named
    assert "C01X00T47" not in repr(named)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"voter_id": "anna"},
        {"voter_id": None},
        {"country": "DEU", "kind": "passport", "number": None},
        {"country": "Germany", "kind": "passport", "number": "C01X00T47"},
        {"country": "DEU", "kind": "passport", "number": "C01\udcff00T47"},
        {"voter_id": "anna", "country": "DEU", "kind": "passport", "number": "C01X00T47"},
    ],
)
def test_a_row_that_names_nobody_is_malformed(row: dict[str, str | None]) -> None:
    assert entry_of(row) is None


def test_a_table_has_to_have_the_columns() -> None:
    check_columns(["voter_id"])
    check_columns(["name", "number", "kind", "country"])
    for columns in ([], ["name"], ["country", "kind"]):
        with pytest.raises(ValueError, match="must name voter_id"):
            check_columns(columns)
