"""What the comparison makes of voters who were told that a survey is closed."""

from collections import Counter
from pathlib import Path

import pytest

from comitia.demo.glasgow import Totals
from comitia.demo.survey import PublishedElection
from tests.faults.checking import Kept, judge
from tests.faults.notes import CLOSED, NO_ANSWER, Asked, Notebook, Notes, Said

ASKED = Asked(0, "eu", "ward-1", "aa", "bb", ())
KEPT = Kept({ASKED.nullifier: [ASKED.evidence]}, Counter({(ASKED.region, frozenset()): 1}), 0, Counter())


def said(status: int, code: str = "") -> Said:
    return Said(ASKED.voter, "api-votes", ASKED.cell, "key", 0, 1.0, 2.0, status, code)


@pytest.mark.parametrize(
    ("attempts", "wrong"),
    [
        ([said(409, CLOSED)], 1),
        ([said(409, CLOSED), said(409, CLOSED)], 1),
        ([said(NO_ANSWER, "the connection was closed"), said(409, CLOSED)], 0),  # the first may have been in time
    ],
)
def test_who_was_only_turned_away_is_in_no_ledger(tmp_path: Path, attempts: list[Said], wrong: int) -> None:
    with Notebook(tmp_path / "notes") as notebook:
        notebook.write(ASKED)
        for attempt in attempts:
            notebook.write(attempt)
    survey = PublishedElection(survey_id="s", questions=(), options=())

    verdict = judge(Notes.read(tmp_path / "notes"), KEPT, Totals(), survey, closing=True)

    assert (verdict.wrong, verdict.missing, verdict.unserved) == (wrong, 0, 0)
