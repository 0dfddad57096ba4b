"""Messages and documents as consumers outside this code base read them: stored once, readable and covered for ever."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from domain.contracts.surveys import Option, Question, Survey, SurveyChanged, SurveyStage
from domain.contracts.voting import AttemptCount, BatchSummary, RegionCounts, VotesAttempted
from domain.results import results_document
from domain.tally import BALLOTS, MergedTotals
from integrations.kafka.summaries import read_summary

MESSAGES = Path(__file__).parent / "messages"
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def stored(name: str) -> Any:
    return json.loads((MESSAGES / f"{name}.json").read_text())


def covers(now: Any, before: Any) -> bool:
    """Tell whether everything in a stored document is in today's, with the same value."""
    if isinstance(before, dict):
        return isinstance(now, dict) and all(name in now and covers(now[name], before[name]) for name in before)
    if isinstance(before, list):
        return len(now) == len(before) and all(map(covers, now, before))
    return bool(now == before) and type(now) is type(before)


def test_a_stored_batch_summary_is_folded_as_it_always_was() -> None:
    addition = read_summary((MESSAGES / "votes.batch-recorded.v1.json").read_bytes())
    assert (addition.survey_id, addition.gateway, addition.number) == ("s_aaaaaaaaaaaaaaaa", bytes(range(16)).hex(), 3)
    assert addition.counts == {("ward-1", BALLOTS): 4, ("ward-1", "1"): 3, ("ward-1", "2"): 1, ("ward-2", BALLOTS): 1}


def test_a_batch_summary_is_written_as_it_always_was() -> None:
    regions = (
        RegionCounts(region="ward-1", ballots=4, options={"1": 3, "2": 1}),
        RegionCounts(region="ward-2", ballots=1, options={}),
    )
    summary = BatchSummary(
        cell="eu", gateway_id=bytes(range(16)), number=3, survey_id="s_aaaaaaaaaaaaaaaa", regions=regions
    )
    assert covers(json.loads(summary.model_dump_json()), stored("votes.batch-recorded.v1"))


def test_attempts_and_changes_are_written_as_they_always_were() -> None:
    attempt = AttemptCount(
        survey_id="s_aaaaaaaaaaaaaaaa", region="ward-1", outcome="confirmed", device="d", network="n", count=2
    )
    attempted = VotesAttempted(process="p", at=AT, attempts=(attempt,), left_out=1)
    changed = SurveyChanged(survey_id="s_aaaaaaaaaaaaaaaa", version=2, stage=SurveyStage.PUBLISHED, start_at=AT)
    assert covers(json.loads(attempted.model_dump_json()), stored("votes.attempted.v1"))
    assert covers(json.loads(changed.model_dump_json()), stored("surveys.changed.v1"))
    assert VotesAttempted.model_validate(stored("votes.attempted.v1")) == attempted
    assert SurveyChanged.model_validate(stored("surveys.changed.v1")) == changed


def test_results_are_shown_as_they_always_were() -> None:
    options = (Option(id="1", text="Yes"), Option(id="2", text="No", image="https://example.org/no.png", order=1))
    survey = Survey(
        id="s_aaaaaaaaaaaaaaaa",
        title="A survey",
        questions=(Question(id="1", title="Which one?", min=1, max=1, order=0, options=options),),
    )
    counts = {("ward-1", BALLOTS): 4, ("ward-1", "1"): 3, ("ward-1", "2"): 1}
    totals = MergedTotals(positions={"eu": (1, 2)}, counts=counts, as_of=AT, missing_cells=("us",))
    assert covers(results_document(survey, totals), stored("results"))
    assert totals.event_id == "eu:1-2"  # `Last-Event-ID` of a stream that survives a release
