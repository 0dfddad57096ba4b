"""Decisions on identities out of the histories that made them: those that are stored, and what cannot be read."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory

from domain.contracts.rejudging import DecisionProcess
from domain.errors import DomainError, ErrorCode
from domain.rejudging import KeptIdentity, Unreadable, judge_under
from domain.replay import Execution, Verdict
from integrations.temporal.codec import PayloadChangedError
from integrations.temporal.histories import started_query
from integrations.temporal.identity_decisions import PROCESS, IdentityDecisions, decision_in

STORED = Path(__file__).parents[2] / "replay" / "histories"
NAMES = [path.stem for path in sorted(STORED.glob("verify-identity-*.json"))]
SINCE = datetime(2026, 5, 7, tzinfo=UTC)


def history(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(name, (STORED / f"{name}.json").read_text())


def decided(name: str) -> KeptIdentity:
    found = decision_in(history(name))
    assert found is not None, name
    return found


class Stored:
    """Histories by their names; others are gone, or cannot be read."""

    def __init__(self, **failures: DomainError) -> None:
        self.failures = failures
        self.asked: list[tuple[datetime, datetime, str]] = []

    async def read(self, workflow_id: str, run_id: str = "") -> WorkflowHistory | None:
        if workflow_id in self.failures:
            raise self.failures[workflow_id]
        return history(workflow_id) if workflow_id in NAMES else None

    async def find(self, since: datetime, until: datetime, kind: str) -> AsyncIterator[Execution]:
        self.asked.append((since, until, kind))
        for name in (*NAMES, "gone", *self.failures):
            yield Execution(name, "run", kind)


def test_there_are_stored_histories() -> None:
    assert len(NAMES) > 15


@pytest.mark.parametrize("name", NAMES)
def test_every_stored_decision_is_the_same_under_the_policy_that_made_it(name: str) -> None:
    kept = decision_in(history(name))
    if kept is None:
        assert "recheck" in name or "reversed" in name
        return
    policy = json.dumps({"version": 2, "minimum_age": kept.rules.minimum_age})
    found = judge_under(DecisionProcess.IDENTITY, policy)(kept)
    assert (found.verdict, found.why) == (Verdict.SAME, "")
    assert found.policy_version == kept.rules.version


def test_what_was_decided_on_is_found() -> None:
    active, young = decided("verify-identity-active"), decided("verify-identity-under-age")
    for kept in (active, young):
        assert kept.finding is not None
        assert kept.finding.age_class is not None
    assert (active.decided.decision, young.decided.reasons) == ("approved", ("under_age",))
    strict = judge_under(DecisionProcess.IDENTITY, json.dumps({"version": 2, "minimum_age": 18}))
    lenient = judge_under(DecisionProcess.IDENTITY, json.dumps({"version": 2, "minimum_age": 0}))
    assert lenient(young).verdict is Verdict.DIFFERENT
    assert lenient(active).verdict is Verdict.SAME
    assert strict(young).verdict is Verdict.SAME


def test_what_is_open_or_ended_from_outside_is_no_decision() -> None:
    whole = history("verify-identity-active")
    for events in (whole.events[:-1], whole.events[:3], []):
        assert decision_in(WorkflowHistory("w", events)) is None
    assert decision_in(history("submit-votes-recorded")) is None


async def test_decisions_of_a_stretch_are_read_and_what_cannot_be_says_why() -> None:
    stored = Stored(
        changed=PayloadChangedError(),
        destroyed=DomainError(ErrorCode.KEY_DESTROYED),
        contradicted=DomainError(ErrorCode.ARCHIVE_CONTRADICTED),
    )
    decisions = IdentityDecisions(stored, stored.find)
    found = await decisions.between(SINCE, SINCE + timedelta(hours=1), None)
    assert found is not None
    assert stored.asked == [(SINCE, SINCE + timedelta(hours=1), PROCESS)]
    assert len([kept for kept in found if isinstance(kept, KeptIdentity)]) > 15
    assert {kept.subject: kept.why for kept in found if isinstance(kept, Unreadable)} == {
        "gone": "history_gone",
        "changed": "key_unavailable",
        "destroyed": "key_destroyed",
        "contradicted": "archive_contradicted",
    }
    assert await decisions.between(SINCE, SINCE + timedelta(hours=1), len(NAMES) + 4) is not None
    assert await decisions.between(SINCE, SINCE + timedelta(hours=1), len(NAMES) + 3) is None


@pytest.mark.parametrize("code", [ErrorCode.WORKFLOWS_UNAVAILABLE, ErrorCode.KEY_UNAVAILABLE])
async def test_what_is_away_is_no_verdict(code: ErrorCode) -> None:
    stored = Stored(away=DomainError(code))
    with pytest.raises(DomainError) as failed:
        await IdentityDecisions(stored, stored.find).between(SINCE, SINCE + timedelta(hours=1), None)
    assert failed.value.code is code


def test_a_period_is_asked_for_by_the_start_of_executions() -> None:
    until = SINCE + timedelta(days=1)
    query = started_query(SINCE.astimezone(None), until, PROCESS)
    assert query == (
        "StartTime >= '2026-05-07T00:00:00.000000Z' AND StartTime < '2026-05-08T00:00:00.000000Z'"
        " AND WorkflowType = 'VerifyIdentity'"
    )
    assert "WorkflowType" not in started_query(SINCE, until)
