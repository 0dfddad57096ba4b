from datetime import UTC, datetime

import pytest

from domain.contracts.surveys import Option, Question, Survey
from domain.errors import DomainError, ErrorCode
from domain.results import Filter, results_document
from domain.tally import MISSING, Addition, CellTotals, CellView, MergedTotals, merge_cells, positions_of, sum_counts

EARLY, LATE = datetime(2030, 1, 1, 12, tzinfo=UTC), datetime(2030, 1, 1, 13, tzinfo=UTC)


def view(seq: int, watermark: datetime | None, *, current: bool = True, **votes: int) -> CellView:
    counts = {("north", option.removeprefix("o")): number for option, number in votes.items()}
    return CellView(CellTotals(1, seq, {("north", ""): sum(votes.values()), **counts}), watermark, current)


def test_what_batches_add_is_summed_and_a_ballot_is_none_of_its_votes() -> None:
    counts = {("north", ""): 3, ("north", "1"): 2, ("north", "2"): 3, ("south", ""): 1, ("south", "1"): 1}
    added = Addition("s_1", "00" * 15 + "01", 7, counts)
    assert added.ballots == 4
    assert sum_counts([added, added])["north", "1"] == 4


def test_cells_merge_and_the_oldest_watermark_speaks_for_all() -> None:
    merged = merge_cells({"us": view(9, EARLY, o1=2), "eu": view(3, LATE, o1=1, o2=4)})
    assert merged is not None
    assert merged.counts == {("north", ""): 7, ("north", "1"): 3, ("north", "2"): 4}
    assert (merged.as_of, merged.missing_cells, merged.event_id) == (EARLY, (), "eu:1-3,us:1-9")


def test_a_cell_that_cannot_be_read_is_named_whether_or_not_it_is_counted() -> None:
    merged = merge_cells({"eu": view(3, LATE, o1=1), "us": view(9, EARLY, current=False, o1=2), "ap": MISSING})
    assert merged is not None
    assert (merged.counts["north", "1"], merged.missing_cells, merged.as_of) == (3, ("ap", "us"), EARLY)
    assert merge_cells({"eu": MISSING}) is None


def test_a_cell_without_a_watermark_is_named() -> None:
    merged = merge_cells({"eu": view(3, LATE, o1=1), "us": view(1, None, o1=1)})
    assert merged is not None
    assert (merged.missing_cells, merged.as_of) == (("us",), LATE)


def survey(*regions: str) -> Survey:
    first = Question(
        id="1",
        title="First?",
        min=1,
        max=1,
        order=1,
        options=(Option(id="2", text="B", order=1), Option(id="1", text="A", order=0)),
    )
    second = Question(id="2", title="Second?", min=0, max=1, order=0, options=(Option(id="3", text="C"),))
    return Survey(id="s_1", title="T", questions=(first, second), regions=regions)


def test_the_document_is_ordered_and_lists_what_nobody_chose() -> None:
    merged = merge_cells({"eu": view(1, EARLY, o1=5)})
    assert merged is not None
    document = results_document(survey(), merged)
    assert [question["id"] for question in document["questions"]] == ["2", "1"]
    assert [(option["id"], option["votes"]) for option in document["questions"][1]["options"]] == [("1", 5), ("2", 0)]
    assert document["asOf"] == "2030-01-01T12:00:00.000Z"


def test_an_option_filter_leaves_out_questions_without_it() -> None:
    merged = merge_cells({"eu": view(1, EARLY, o1=5)})
    assert merged is not None
    document = results_document(survey(), merged, Filter.of((), ("1",)))
    assert [question["id"] for question in document["questions"]] == ["1"]
    elsewhere = results_document(survey(), merged, Filter.of(("south",), ()))
    assert elsewhere["totalResponses"] == 0


@pytest.mark.parametrize(
    ("regions", "narrowed", "code"),
    [
        (("north",), Filter.of(("south",), ()), ErrorCode.REGION_UNKNOWN),
        ((), Filter.of(("",), ()), ErrorCode.REGION_UNKNOWN),
        ((), Filter.of(("x" * 65,), ()), ErrorCode.REGION_UNKNOWN),
        ((), Filter.of((), ("9",)), ErrorCode.OPTION_UNKNOWN),
    ],
)
def test_filters_that_the_survey_does_not_have(regions: tuple[str, ...], narrowed: Filter, code: ErrorCode) -> None:
    with pytest.raises(DomainError) as refused:
        narrowed.check(survey(*regions))
    assert refused.value.code is code


def test_a_survey_for_every_region_takes_any() -> None:
    Filter.of(("anywhere",), ("3",)).check(survey())


@pytest.mark.parametrize(
    ("event_id", "positions"),
    [
        ("eu:3-120,us:1-7", {"eu": (3, 120), "us": (1, 7)}),
        ("eu:0-0", {"eu": (0, 0)}),
        ("", {}),
        ("long-ago", {}),
        ("eu:1-1,", {}),
        ("eu:1-1;us:1-1", {}),
        ("eu:-1-1", {}),
        ("eu:" + "9" * 5000 + "-1", {}),
    ],
)
def test_an_event_id_tells_positions(event_id: str, positions: dict[str, tuple[int, int]]) -> None:
    assert positions_of(event_id) == positions
    if positions:
        assert MergedTotals(positions=positions, counts={}).event_id == event_id
