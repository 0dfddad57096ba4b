"""Code that comes to another decision at the same places is different, and what a contract gained later is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadConverter

from domain.contracts.base import Contract
from domain.contracts.registration import CaseFinding, IdentityDecision, VerifiedIdentity, VerifyIdentityInput
from domain.registration import Reason
from domain.replay import ReplayVerdict, Verdict
from integrations.temporal.client import data_converter
from integrations.temporal.replay_contents import fields_that_differ
from integrations.temporal.replay_listening import naming
from integrations.temporal.replaying import Replays
from workflows.registry import WORKFLOWS
from workflows.verify_identity import VerifyIdentityWorkflow

STORED = Path(__file__).parents[2] / "replay" / "histories"


@workflow.defn(name="VerifyIdentity")
class RefusesInstead(VerifyIdentityWorkflow):
    """Refuses for age whomever the provider rejects."""

    @workflow.init
    def __init__(self, request: VerifyIdentityInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: VerifyIdentityInput) -> VerifiedIdentity:
        return await super().run(request)

    def _rejected(self, _found: CaseFinding) -> VerifiedIdentity:
        return self._decided(IdentityDecision.REFUSED, Reason.UNDER_AGE)


def stored(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(name, (STORED / f"{name}.json").read_text())


async def judge(history: WorkflowHistory, *workflows: type) -> ReplayVerdict:
    (verdict,) = await Replays(workflows or WORKFLOWS).judge([history])
    return verdict


REJECTED = sorted(path.stem for path in STORED.glob("verify-identity-*rejected*.json"))


@pytest.mark.parametrize("name", REJECTED)
async def test_code_that_would_have_decided_otherwise_is_different(name: str) -> None:
    history = stored(name)
    assert (await judge(history)).verdict is Verdict.SAME
    found = await judge(history, RefusesInstead)
    assert (found.verdict, found.event_id) == (Verdict.DIFFERENT, history.events[-1].event_id)
    assert found.recorded == "workflow_execution_completed"
    assert found.wanted.startswith("result with other content: ")
    assert "under_age" not in str(found.document())


def changed(payload: Payload, field: str, value: object) -> None:
    document = json.loads(payload.data)
    assert field in document
    payload.data = json.dumps({**document, field: value}).encode()


def last(history: WorkflowHistory, kind: str) -> HistoryEvent:
    return [event for event in history.events if event.WhichOneof("attributes") == f"{kind}_event_attributes"][-1]


def shorter(event: HistoryEvent) -> None:
    event.timer_started_event_attributes.start_to_fire_timeout.seconds -= 1


def another_stage(event: HistoryEvent) -> None:
    fields = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
    fields["ProcessStage"].data = b'"another"'


def another_code(event: HistoryEvent) -> None:
    event.workflow_execution_failed_event_attributes.failure.cause.application_failure_info.type = "another_code"


def another_refusal(event: HistoryEvent) -> None:
    outcome = event.workflow_execution_update_completed_event_attributes.outcome
    outcome.failure.application_failure_info.type = "another_code"


def another_argument(event: HistoryEvent) -> None:
    event.signal_external_workflow_execution_initiated_event_attributes.input.payloads.add()


def input_of(kind: str, field: str, value: object) -> Callable[[HistoryEvent], None]:
    return lambda event: changed(getattr(event, f"{kind}_event_attributes").input.payloads[0], field, value)


def answer(event: HistoryEvent) -> None:
    outcome = event.workflow_execution_update_completed_event_attributes.outcome
    changed(outcome.success.payloads[0], "failures_left", 1)


CHILD = "start_child_workflow_execution_initiated"
CHANGES: list[tuple[str, str, Callable[[HistoryEvent], None], str]] = [
    (
        "archive-histories-archived",
        "activity_task_scheduled",
        input_of("activity_task_scheduled", "cell", "another"),
        "activity {} with other content: cell",
    ),
    (
        "register-voter-active",
        CHILD,
        input_of(CHILD, "rules", {"version": 1, "minimum_age": 18, "provider": "fake"}),
        "child workflow VerifyIdentity with other content: rules",
    ),
    (
        "assess-login-one-look-step-up-failed",
        "workflow_execution_update_completed",
        answer,
        "answer to an update with other content: failures_left",
    ),
    (
        "assess-login-one-look-step-up-failed",
        "workflow_execution_update_completed",
        another_refusal,
        "answer to an update",
    ),
    ("export-results-survey-missing", "workflow_execution_failed", another_code, "failure activity survey_not_found"),
    (
        "register-voter-cancelled",
        "signal_external_workflow_execution_initiated",
        another_argument,
        "signal withdrawn with other content",
    ),
    ("register-voter-active", "timer_started", shorter, "Timer of another length"),
    (
        "break-glass-expired",
        "upsert_workflow_search_attributes",
        another_stage,
        "search attributes with other content: ProcessStage",
    ),
]


@pytest.mark.parametrize(("name", "kind", "change", "wanted"), CHANGES, ids=[case[3] for case in CHANGES])
async def test_every_content_is_compared(
    name: str, kind: str, change: Callable[[HistoryEvent], None], wanted: str
) -> None:
    history = stored(name)
    event = last(history, kind)
    change(event)
    found = await judge(history)
    assert (found.verdict, found.event_id) == (Verdict.DIFFERENT, event.event_id)
    assert found.wanted == wanted.format(event.activity_task_scheduled_event_attributes.activity_type.name)


class Inner(Contract):
    shade: str
    since: int = 0


class Outer(Contract):
    name: str
    kinds: frozenset[str] = frozenset()
    inner: tuple[Inner, ...] = ()
    amount: float = 0.0
    added: bool = False


def wanted(value: Any) -> Payload:
    converter: PayloadConverter = naming(data_converter(None)).payload_converter
    return converter.to_payload(value)


def recorded(document: object) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(document).encode())


BEFORE: dict[str, object] = {"name": "a", "kinds": ["x", "y"], "inner": [{"shade": "red"}], "amount": 1}
SAME = Outer(name="a", kinds=frozenset({"y", "x"}), inner=(Inner(shade="red"),), amount=1.0)


@pytest.mark.parametrize(
    ("then", "now", "fields"),
    [
        (BEFORE, SAME, None),
        (BEFORE, SAME.model_copy(update={"added": True}), ["added"]),
        (BEFORE, SAME.model_copy(update={"name": "b", "kinds": frozenset()}), ["kinds", "name"]),
        (BEFORE, SAME.model_copy(update={"inner": (Inner(shade="red", since=1),)}), ["inner"]),
        (BEFORE, SAME.model_copy(update={"inner": ()}), ["inner"]),
        ({**BEFORE, "refused": True}, SAME, ["refused"]),
        ({**BEFORE, "inner": [{"shade": "red", "tone": 1}]}, SAME, ["inner"]),
        ({"kinds": 5}, SAME, ["added", "amount", "inner", "kinds", "name"]),
        ("a name", SAME, []),
        ("a name", "a name", None),
        ("a name", "another", []),
        ("a name", None, []),
        ([{"name": 1}], ({"name": 1},), None),
    ],
)
def test_contents_are_compared_as_their_contract_reads_them(
    then: object, now: object, fields: list[str] | None
) -> None:
    found = fields_that_differ(recorded(then), wanted(now), True)  # noqa: FBT003
    assert (found if found is None else sorted(found)) == fields


def test_what_nobody_could_ask_for_then_is_no_difference() -> None:
    asked = wanted(SAME.model_copy(update={"added": True}))
    assert fields_that_differ(recorded(BEFORE), asked, False) is None  # noqa: FBT003
    assert fields_that_differ(recorded({**BEFORE, "added": False}), asked, False) == ["added"]  # noqa: FBT003
