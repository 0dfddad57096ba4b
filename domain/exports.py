"""Results as a file: one line per region and option, or one document."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from domain.contracts.exports import ExportFormat, ExportRequest, ExportSnapshot
from domain.contracts.surveys import Survey
from domain.contracts.voting import RegionCounts
from domain.results import Filter, results_document
from domain.tally import BALLOTS, MergedTotals

COLUMNS = (
    "survey_id",
    "as_of",
    "missing_cells",
    "region",
    "responses",
    "question_id",
    "question",
    "option_id",
    "option",
    "votes",
)
_FORMULA: Final = "=+@＝＋－＠-"  # noqa: RUF001 - some spreadsheets read the wide ones too
# A spreadsheet may take another separator than ours, so a cell may begin inside of a text: behind any separator that is
# in use, and space and quotes that are dropped there. Behind a space a sign alone begins none, as in "soup - hot".
_CELL_BEGIN: Final = re.compile(
    rf"""^(?=[\t\r\n])|(?:^|[;,|:]|[^\S ])[\s"]*(?=[{_FORMULA}])|[ ]"*(?=[{_FORMULA}](?![ ]))"""
)


def export_filter(request: ExportRequest) -> Filter:
    """Return what an export is narrowed to."""
    return Filter(
        regions=frozenset() if request.region is None else frozenset({request.region}),
        options=frozenset() if request.option is None else frozenset({request.option}),
    )


def snapshot_of(survey: Survey, totals: MergedTotals) -> ExportSnapshot:
    """Return what a file is written from."""
    options: dict[str, dict[str, int]] = {}
    for (region, option), votes in sorted(totals.counts.items()):
        options.setdefault(region, {})[option] = votes
    return ExportSnapshot(
        survey=survey,
        regions=tuple(
            RegionCounts(region=region, ballots=counts.pop(BALLOTS, 0), options=counts)
            for region, counts in options.items()
        ),
        as_of=totals.as_of,
        missing_cells=totals.missing_cells,
    )


def export_regions(snapshot: ExportSnapshot, request: ExportRequest) -> list[str]:
    """Return the regions of an export in order: those of the survey, and those that ballots came from."""
    if request.region is not None:
        return [request.region]
    return sorted({*snapshot.survey.regions, *(counts.region for counts in snapshot.regions)})


def export_pieces(snapshot: ExportSnapshot, request: ExportRequest) -> Iterator[bytes]:
    """Return the file in pieces, UTF-8: a beginning, one piece per region, an end."""
    totals = _totals_of(snapshot)
    regions = export_regions(snapshot, request)
    if request.format is ExportFormat.CSV:
        return _csv_pieces(snapshot.survey, totals, regions, request)
    return _json_pieces(snapshot.survey, totals, regions, request)


def _totals_of(snapshot: ExportSnapshot) -> MergedTotals:
    counts = {(counts.region, BALLOTS): counts.ballots for counts in snapshot.regions}
    for region in snapshot.regions:
        counts |= {(region.region, option): votes for option, votes in region.options.items()}
    return MergedTotals(positions={}, counts=counts, as_of=snapshot.as_of, missing_cells=snapshot.missing_cells)


def _csv_pieces(survey: Survey, totals: MergedTotals, regions: list[str], request: ExportRequest) -> Iterator[bytes]:
    yield _lines([COLUMNS])
    as_of = "" if totals.as_of is None else totals.as_of.isoformat()
    missing = " ".join(totals.missing_cells)
    for region in regions:
        responses = str(totals.counts.get((region, BALLOTS), 0))
        yield _lines(
            (
                *(survey.id, as_of, missing, region, responses, question.id, question.title),
                *(option.id, option.text, str(totals.counts.get((region, option.id), 0))),
            )
            for question in survey.questions
            for option in question.options
            if request.option in (None, option.id)
        )
    yield b""


def _json_pieces(survey: Survey, totals: MergedTotals, regions: list[str], request: ExportRequest) -> Iterator[bytes]:
    narrowed = export_filter(request)
    whole = json.dumps(results_document(survey, totals, narrowed), ensure_ascii=False)
    yield f'{whole[:-1]}, "regions": ['.encode()
    for place, region in enumerate(regions):
        document = results_document(survey, totals, Filter(frozenset({region}), narrowed.options))
        part = {"region": region, **{name: document[name] for name in ("totalResponses", "questions")}}
        yield f"{', ' if place else ''}{json.dumps(part, ensure_ascii=False)}".encode()
    yield b"]}\n"


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([_inert(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _inert(text: str) -> str:
    """Return a text of which no cell is a formula, whatever separates the cells (OWASP, CSV injection)."""
    return _CELL_BEGIN.sub(r"\g<0>'", text)
