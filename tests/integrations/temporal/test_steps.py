"""Timelines from stored histories: stages, waits, attempts and codes, and nothing that a role may not see."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure, TimeoutFailureInfo
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from domain.cases import Step, StepKind
from domain.masking import MASK, masked
from domain.signatures import Signatures
from domain.tokens import Role
from integrations.temporal.events import at, said_of
from integrations.temporal.standings import code_of
from integrations.temporal.steps import StepReader
from tests.masking_walk import SEEN, texts, told_elsewhere
from workflows.signatures import all_signatures

STORED = {path.stem: path for path in (Path(__file__).parents[2] / "replay" / "histories").glob("*.json")}
SIGNATURES = all_signatures()
NUMBERS = count()
NOBODYS = {"options", "sealed_answers", "nullifier", "evidence", "outcomes", "hashes", "digest"}


def history(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(name, STORED[name].read_text())


def steps(name: str) -> list[Step]:
    return list(StepReader(history(name), SIGNATURES).steps())


def test_a_registration_shows_its_stages_its_children_and_who_did_what() -> None:
    found = steps("register-voter-active")
    stages = [step for step in found if step.kind is StepKind.STAGE]
    assert [step.name for step in stages] == ["contact_proof", "proofing", "active"]
    assert stages[0].until is not None
    assert all(step.state == "completed" and step.attempts == 1 for step in stages)
    (asked,) = [step for step in found if step.kind is StepKind.ASKED]
    assert (asked.name, asked.by, asked.state) == ("prove_contact", "voter", "completed")
    assert (found[0].kind, found[0].process) == (StepKind.BEGAN, "RegisterVoter")
    assert (found[-1].kind, found[-1].state) == (StepKind.ENDED, "completed")
    reader = StepReader(history("register-voter-active"), SIGNATURES)
    assert [step.name for step in reader.steps() if step.kind is StepKind.PROCESS] == ["VerifyIdentity"]
    assert len(reader.children) == 1


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("delete-account-deleted", ["stopped", "closed", "completed"]),
        ("recover-account-recovered", ["recovered"]),
        ("break-glass-read", ["waiting", "approved", "ended"]),
    ],
)
def test_a_process_that_notes_no_stage_shows_those_that_it_is_searched_by(name: str, stages: list[str]) -> None:
    found = [step for step in steps(name) if step.kind is StepKind.STAGE]
    assert [step.name for step in found] == stages
    assert all(step.state == "completed" and step.given is None for step in found)


def test_stages_are_shown_where_what_was_noted_cannot_be_read() -> None:
    for name in ("register-voter-active", "verify-identity-local-active"):
        unread = StepReader(history(name), Signatures()).steps()
        stages = [[step.name for step in each if step.kind is StepKind.STAGE] for each in (unread, steps(name))]
        assert stages[0] == stages[1]


@pytest.mark.parametrize("case", ["active", "retried", "expired", "reversed"])
def test_a_case_shows_the_same_stages_wherever_its_steps_ran(case: str) -> None:
    queued, local = (
        [step for step in steps(f"verify-identity-{how}{case}") if step.kind is StepKind.STAGE]
        for how in ("", "local-")
    )
    assert queued
    assert [step.name for step in local] == [step.name for step in queued]
    assert [step.until is None for step in local] == [step.until is None for step in queued]
    assert all(step.given is not None and step.state == "completed" for step in local)


def test_what_staff_ask_for_is_never_said_to_be_the_voters() -> None:
    taken = [step.by for step in steps("register-voter-cancelled-by-staff") if step.name == "take_action"]
    assert taken
    assert all(by.startswith("staff:") for by in taken)
    (own,) = [step for step in steps("register-voter-cancelled") if step.name == "cancel"]
    assert own.by == "voter"
    earlier = history("register-voter-cancelled")
    for event in earlier.events:
        for found in (
            event.workflow_execution_update_accepted_event_attributes.accepted_request.meta,
            event.workflow_execution_update_completed_event_attributes.meta,
        ):
            if found.update_id:
                found.update_id = "support-" + found.update_id
    (asked,) = [step for step in StepReader(earlier, SIGNATURES).steps() if step.name == "cancel"]
    assert (asked.by, asked.state) == ("support", own.state)


def test_a_case_shows_the_providers_reference_and_waits_with_deadlines() -> None:
    found = steps("verify-identity-active")
    opened = next(step for step in found if step.name == "open_case")
    assert opened.came is not None
    assert masked(opened.came, {Role.SUPPORT})["reference"].startswith("ref-")
    waits = [step for step in steps("verify-identity-expired") if step.kind is StepKind.WAIT]
    assert waits
    assert all(wait.until is not None and wait.until > wait.at for wait in waits)
    assert {wait.state for wait in waits} <= {"over", "not_needed", "waiting"}


def test_attempts_and_codes_are_those_of_the_history() -> None:
    found = steps("submit-votes-broker-away")
    announced = [step for step in found if step.name == "announce_votes"]
    assert [(step.state, step.code) for step in announced] == [
        ("failed", "broker_unavailable"),
        ("completed", "broker_unavailable"),
    ]
    assert announced[1].attempts == 3
    (ended,) = [step for step in steps("submit-votes-digest-mismatch") if step.kind is StepKind.ENDED]
    assert (ended.state, ended.code) == ("failed", "batch_digest_mismatch")


def task(kind: str, **fields: Any) -> HistoryEvent:
    name = f"workflow_task_{kind}"
    event = HistoryEvent(event_id=1_000 + next(NUMBERS), event_type=EventType.Value(f"EVENT_TYPE_{name.upper()}"))
    event.event_time.FromSeconds(1_800_000_000 + event.event_id)
    said = getattr(event, f"{name}_event_attributes")
    said.MergeFrom(type(said)(**fields))
    said.SetInParent()
    return event


def with_tasks(*events: HistoryEvent) -> list[Step]:
    """Return the steps of the process's own code in a history that goes on with these events."""
    begun = history("register-voter-active")
    read = StepReader(WorkflowHistory(begun.workflow_id, [*begun.events[:1], *events]), SIGNATURES)
    return [step for step in read.steps() if step.kind is StepKind.TASK]


def test_code_that_fails_is_a_step_until_it_succeeds() -> None:
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    words = Failure(message="anna@example.org", application_failure_info=ApplicationFailureInfo(type="anna"))
    failed, again = task("failed", cause=cause, failure=words), task("scheduled", attempt=7)
    (step,) = with_tasks(task("scheduled", attempt=1), failed, again)
    assert (step.name, step.state, step.code, step.attempts) == (
        "workflow_task",
        "failed",
        "non_deterministic_error",
        7,
    )
    assert "anna" not in str(step)
    (step,) = with_tasks(failed, again, done := task("completed"), task("scheduled", attempt=1))
    assert (step.state, step.code, step.attempts) == ("completed", "non_deterministic_error", 7)
    assert step.ended_at == at(done)
    start_to_close, sticky = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
    (step,) = with_tasks(task("timed_out", timeout_type=start_to_close))
    assert (step.state, step.code, step.attempts) == ("failed", "timed_out", 1)
    race = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
    assert not with_tasks(task("timed_out", timeout_type=sticky), task("failed", cause=race), again)


@pytest.mark.parametrize("name", STORED)
def test_every_stored_history_is_read_and_hides_what_it_must(name: str) -> None:
    found = steps(name)
    assert found[0].kind is StepKind.BEGAN
    assert found[0].given is not None
    contracts = [each for step in found for each in (step.given, step.came) if each is not None]
    for role in (Role.SUPPORT, Role.COMPLIANCE):
        words = [masked(each, {role}) for each in contracts]
        shown = set(said(words))
        told = [found for contract in contracts for found in texts(contract, SEEN[role])]
        permitted = {text for is_hidden, text in told if not is_hidden}
        assert not [text for is_hidden, text in told if is_hidden and text not in permitted and text in shown], role
        assert not told_elsewhere(contracts, role), role
        json.dumps(words)
        assert not NOBODYS & set(keys(words)), role
        if role is Role.SUPPORT:
            assert set(persons(words)) <= {MASK}


def said(value: Any) -> Iterator[Any]:
    """Every value, without the names of fields."""
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from said(each)
    else:
        yield value


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        # A survey's questions have options that are no choices: they are what could be chosen
        for name, each in value.items():
            if not (name == "options" and "text_max" in value):
                yield name
            yield from keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from keys(each)


def persons(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name in {"person_id", "age_class", "staff_reasons"}:
                yield each
            else:
                yield from persons(each)
    elif isinstance(value, list):
        for each in value:
            yield from persons(each)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(message="anna@a.org", application_failure_info=ApplicationFailureInfo(type="ValueError")), "internal"),
        (Failure(application_failure_info=ApplicationFailureInfo(type="mail_refused")), "mail_refused"),
        (Failure(timeout_failure_info=TimeoutFailureInfo()), "timed_out"),
        (Failure(message="anna@example.org"), "internal"),
        (
            Failure(cause=Failure(application_failure_info=ApplicationFailureInfo(type="key_unavailable"))),
            "key_unavailable",
        ),
    ],
)
def test_a_failure_is_its_code_and_never_its_text(failure: Failure, code: str) -> None:
    assert code_of(failure) == code


def test_every_event_of_every_stored_history_has_words() -> None:
    kinds = set()
    for name in STORED:
        for event in history(name).events:
            kinds.add(event.event_type)
            assert said_of(event).startswith(EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower())
    assert len(kinds) > 15
