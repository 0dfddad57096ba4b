import csv
import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.contracts.exports import ExportFormat, ExportRequest, ExportSnapshot
from domain.contracts.surveys import Option, Question, Survey
from domain.exports import COLUMNS, export_pieces, export_regions, snapshot_of
from domain.tally import BALLOTS, MergedTotals

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
SURVEY = Survey(
    id="s_a",
    title="Lunch",
    questions=(
        Question(
            id="1",
            title='=HYPERLINK("x")',
            min=1,
            max=1,
            order=0,
            options=(Option(id="1", text="Soup,\nhot"), Option(id="2", text='"Salad"')),
        ),
        Question(id="2", title="When?", min=0, max=1, order=1, options=(Option(id="3", text="Noon"),)),
    ),
    regions=("ES", "UK"),
)
COUNTS = {("UK", BALLOTS): 3, ("UK", "1"): 2, ("UK", "3"): 1, ("FR", BALLOTS): 1, ("FR", "2"): 1}
TOTALS = MergedTotals(positions={}, counts=COUNTS, as_of=AS_OF, missing_cells=("us",))


def request(file_format: ExportFormat, region: str | None = None, option: str | None = None) -> ExportRequest:
    return ExportRequest(
        survey_id="s_a", export_id="x_a", actor="staff:u_x", format=file_format, region=region, option=option
    )


def content(wanted: ExportRequest, totals: MergedTotals = TOTALS) -> str:
    snapshot = ExportSnapshot.model_validate_json(snapshot_of(SURVEY, totals).model_dump_json())
    return b"".join(export_pieces(snapshot, wanted)).decode()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_region_and_option_has_a_line() -> None:
    found = rows(content(request(ExportFormat.CSV)))
    assert list(found[0]) == list(COLUMNS)
    assert [(row["region"], row["option_id"]) for row in found] == [
        (region, option) for region in ("ES", "FR", "UK") for option in ("1", "2", "3")
    ]
    assert sum(int(row["votes"]) for row in found) == 4
    assert {row["region"]: row["responses"] for row in found} == {"ES": "0", "FR": "1", "UK": "3"}
    assert {row["as_of"] for row in found} == {"2026-01-01T00:00:00+00:00"}


def test_texts_survive_and_compute_nothing() -> None:
    found = rows(content(request(ExportFormat.CSV, region="UK")))
    assert [row["option"] for row in found] == ["Soup,\nhot", '"Salad"', "Noon"]
    assert found[0]["question"] == '\'=HYPERLINK("x")'
    of_before = rows(content(request(ExportFormat.CSV), MergedTotals(positions={}, counts={("=1+1", BALLOTS): 1})))
    assert {row["region"] for row in of_before} == {"ES", "UK", "'=1+1"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])  # noqa: RUF001
def test_no_text_is_a_formula_in_any_spreadsheet(start: str) -> None:
    text, region = f"{start}1+1", f"{start}UK"
    question = SURVEY.questions[1]
    option = question.options[0].model_copy(update={"text": text})
    asked = question.model_copy(update={"title": text, "options": (option,)})
    survey = SURVEY.model_copy(update={"questions": (asked,), "regions": (region,)})
    snapshot = snapshot_of(survey, MergedTotals(positions={}, counts={}))
    (row,) = rows(b"".join(export_pieces(snapshot, request(ExportFormat.CSV))).decode())
    assert (row["region"], row["question"], row["option"]) == (f"'{region}", f"'{text}", f"'{text}")


# What a reader may be set to: a separator, and what of quotes and of space it heeds.
READERS: list[dict[str, Any]] = [
    {"delimiter": delimiter, "quoting": quoting, "doublequote": doubled, "skipinitialspace": skipped}
    for delimiter in ";\t,|: "
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)
    for doubled in (True, False)
    for skipped in (True, False)
]
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]\s*[^\s]")  # noqa: RUF001


def cells(text: str) -> set[str]:
    """Return every cell that some reader finds in a text."""
    return {
        cell for reading in READERS for row in csv.reader(text.splitlines(keepends=True), **reading) for cell in row
    }


@pytest.mark.parametrize(
    "text",
    [
        "Soup;=1+1",
        "Soup,=1+1",
        "Soup\t=1+1",
        "Soup\n=1+1",
        "Soup\r@SUM(1)",
        "Soup|+1",
        "Soup:-1+1",
        "Soup =1+1",
        "Soup; \t= 1+1",
        'Soup;"=1+1"',
        'Soup\n"=1+1";',
        'Soup;""=1+1',
        'Soup "=1+1"',
        'Soup;"',
        "Soup;",
        "Soup;＝1",  # noqa: RUF001
    ],
)
def test_no_cell_is_a_formula_whatever_the_separator(text: str) -> None:
    assert [cell for cell in cells(of_texts(text)) if FORMULA.match(cell)] == []


@given(st.text(alphabet="a1;,|:\t\n\r \"'=+-@", max_size=12))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_a_formula_of_a_cell(text: str) -> None:
    assert [cell for cell in cells(of_texts(text)) if FORMULA.match(cell)] == []


def of_texts(text: str) -> str:
    """Return the file of a survey whose texts are all this."""
    option = SURVEY.questions[0].options[0].model_copy(update={"text": text})
    question = SURVEY.questions[0].model_copy(update={"title": text, "options": (option, option)})
    survey = SURVEY.model_copy(update={"questions": (question,), "regions": (text,)})
    snapshot = snapshot_of(survey, MergedTotals(positions={}, counts={}))
    return b"".join(export_pieces(snapshot, request(ExportFormat.CSV))).decode()


@pytest.mark.parametrize("text", ["Soup - hot", "C++", "e-mail", "(+5 %)", "12:00-13:00", "1=1", "a@b.example"])
def test_signs_that_begin_no_cell_stay_as_they_are(text: str) -> None:
    (row, _) = rows(of_texts(text))
    assert (row["region"], row["question"], row["option"]) == (text, text, text)


@pytest.mark.parametrize(
    ("region", "option", "votes"), [("UK", "1", 2), ("UK", "2", 0), ("ES", "1", 0), (None, "2", 1)]
)
def test_filters_agree_between_the_formats(region: str | None, option: str, votes: int) -> None:
    lines = rows(content(request(ExportFormat.CSV, region, option)))
    assert sum(int(row["votes"]) for row in lines) == votes
    assert {row["option_id"] for row in lines} == {option}
    document = json.loads(content(request(ExportFormat.JSON, region, option)))
    found = [choice for question in document["questions"] for choice in question["options"]]
    assert [(choice["id"], choice["votes"]) for choice in found] == [(option, votes)]
    assert sum(part["questions"][0]["options"][0]["votes"] for part in document["regions"]) == votes


def test_a_document_adds_up() -> None:
    document = json.loads(content(request(ExportFormat.JSON)))
    assert document["totalResponses"] == sum(part["totalResponses"] for part in document["regions"]) == 4
    assert (document["asOf"], document["missingCells"]) == ("2026-01-01T00:00:00.000Z", ["us"])
    assert [part["region"] for part in document["regions"]] == ["ES", "FR", "UK"]


def test_nothing_counted_yet_is_still_a_file() -> None:
    empty = MergedTotals(positions={}, counts={})
    assert {row["votes"] for row in rows(content(request(ExportFormat.CSV), empty))} == {"0"}
    assert json.loads(content(request(ExportFormat.JSON), empty))["asOf"] is None


def test_a_snapshot_keeps_every_count() -> None:
    snapshot = snapshot_of(SURVEY, TOTALS)
    kept = {(region.region, option): votes for region in snapshot.regions for option, votes in region.options.items()}
    assert kept | {(region.region, BALLOTS): region.ballots for region in snapshot.regions} == COUNTS
    assert export_regions(snapshot, request(ExportFormat.CSV)) == ["ES", "FR", "UK"]
    assert TOTALS.counts == COUNTS  # nothing was taken out of it
