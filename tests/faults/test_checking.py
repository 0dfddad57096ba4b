"""What the comparison makes of what voters were told, of what ledgers keep, and of what results show."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from comitia.demo.glasgow import Totals
from comitia.demo.survey import PublishedElection
from domain.tally import BALLOTS
from tests.faults.checking import Kept, Verdict, judge
from tests.faults.notes import ACCEPTED, CLOSED, CONFIRMED, NO_ANSWER, Asked, Learnt, Notebook, Notes, Said
from tests.faults.papers import Paper, Papers, Sums

COLUMNS = ("missing", "double", "wrong", "difference", "unserved")
SURVEY = PublishedElection(survey_id="s", questions=("1",), options=({"Green": "1", "Red": "2"},))
GREEN: Paper = ("ward-1", frozenset({("1", "1")}))
RED: Paper = ("ward-1", frozenset({("1", "2")}))
FIRST = Asked(0, "eu", "ward-1", "aa", "bb", (("1", ("Green",)),))
SECOND = Asked(1, "us", "ward-1", "cc", "dd", (("1", ("Red",)),))


def said(status: int, code: str = "", *, of: Asked = FIRST) -> Said:
    return Said(of.voter, "api-votes", of.cell, f"key-{of.voter}", 0, 1.0, 2.0, status, code)


@dataclass
class Seen:
    """Two voters with a receipt each, who are recorded, counted and shown."""

    asked: list[Asked] = field(default_factory=lambda: [FIRST, SECOND])
    answers: list[Said | Learnt] = field(
        default_factory=lambda: [
            replace(said(CONFIRMED), receipt="r-0"),
            said(ACCEPTED, of=SECOND),
            Learnt(SECOND.voter, "confirmed", 3.0, "r-1"),
        ]
    )
    evidence: dict[str, Sequence[str]] = field(default_factory=lambda: {"aa": ["bb"], "cc": ["dd"]})
    opened: Papers = field(default_factory=lambda: Counter({GREEN: 1, RED: 1}))
    unreadable: int = 0
    counted: Sums = field(default_factory=lambda: Counter({("ward-1", ""): 2, ("ward-1", "1"): 1, ("ward-1", "2"): 1}))
    shown: Totals = field(
        default_factory=lambda: Counter({("ward-1", 0, BALLOTS): 2, ("ward-1", 1, "Green"): 1, ("ward-1", 1, "Red"): 1})
    )

    def judged(self, folder: Path, *, closing: bool = False) -> Verdict:
        notes: list[Asked | Said | Learnt] = [*self.asked, *self.answers]
        with Notebook(folder / "notes") as notebook:
            for note in notes:
                notebook.write(note)
        kept = Kept(self.evidence, self.opened, self.unreadable, self.counted)
        return judge(Notes.read(folder / "notes"), kept, self.shown, SURVEY, closing=closing)


def lost(seen: Seen) -> None:
    del seen.evidence["cc"], seen.opened[RED]


def recorded_twice(seen: Seen) -> None:
    seen.evidence["aa"] = ["bb", "bb"]


def stuffed(seen: Seen) -> None:
    seen.opened[RED] += 1


def told_of_two_first_votes(seen: Seen) -> None:
    seen.answers.append(replace(said(CONFIRMED), key="another", receipt="r-0"))


def confirmed_for_a_second_thought(seen: Seen) -> None:
    seen.answers.append(replace(said(CONFIRMED), ballot=1, receipt="r-0", replayed=True))


def for_somebody_else(seen: Seen) -> None:
    seen.opened = Counter({GREEN: 2})


def nobody_asked(seen: Seen) -> None:
    seen.evidence["ee"] = ["ff"]


def other_evidence(seen: Seen) -> None:
    seen.evidence["aa"] = ["ff"]


def unreadable(seen: Seen) -> None:
    del seen.opened[RED]
    seen.unreadable = 1


def two_receipts(seen: Seen) -> None:
    seen.answers.append(replace(said(CONFIRMED), receipt="r-9", replayed=True))


def counted_otherwise(seen: Seen) -> None:
    seen.counted["ward-1", "1"] += 1


def counted_elsewhere(seen: Seen) -> None:
    seen.counted = Counter({("ward-2", option): votes for (_, option), votes in seen.counted.items()})


def shown_otherwise(seen: Seen) -> None:
    seen.shown["ward-1", 1, "Red"] += 1


def shown_nothing(seen: Seen) -> None:
    seen.shown = Totals()


def without_a_receipt(seen: Seen) -> None:
    seen.answers = seen.answers[:-1]


def test_what_agrees_holds(tmp_path: Path) -> None:
    verdict = Seen().judged(tmp_path)

    assert verdict.holds
    assert (verdict.acknowledged, verdict.recorded) == (2, 2)


@pytest.mark.parametrize(
    ("wrong", "columns"),
    [
        (lost, {"missing", "difference"}),
        (recorded_twice, {"double"}),
        (stuffed, {"double", "wrong", "difference"}),
        (told_of_two_first_votes, {"double"}),
        (confirmed_for_a_second_thought, {"double"}),
        (for_somebody_else, {"wrong", "difference"}),
        (nobody_asked, {"wrong"}),
        (other_evidence, {"wrong"}),
        (unreadable, {"wrong", "difference"}),
        (two_receipts, {"wrong"}),
        (counted_otherwise, {"difference"}),
        (counted_elsewhere, {"difference"}),
        (shown_otherwise, {"difference"}),
        (shown_nothing, {"difference"}),
        (without_a_receipt, {"unserved"}),
    ],
)
def test_whatever_is_wrong_is_in_its_column(tmp_path: Path, wrong: Callable[[Seen], None], columns: set[str]) -> None:
    seen = Seen()
    wrong(seen)

    verdict = seen.judged(tmp_path)

    assert {name for name in COLUMNS if getattr(verdict, name)} == columns
    assert not verdict.holds


@pytest.mark.parametrize(
    ("attempts", "wrong"),
    [
        ([said(409, CLOSED)], 1),
        ([said(409, CLOSED), said(409, CLOSED)], 1),
        ([said(NO_ANSWER, "the connection was closed"), said(409, CLOSED)], 0),  # the first may have been in time
    ],
)
def test_who_was_only_turned_away_is_in_no_ledger(tmp_path: Path, attempts: list[Said], wrong: int) -> None:
    seen = Seen(answers=[*attempts, said(CONFIRMED, of=SECOND)])

    verdict = seen.judged(tmp_path, closing=True)

    assert (verdict.wrong, verdict.missing, verdict.unserved) == (wrong, 0, 0)
