"""Executions of earlier releases, replayed by the code of this one; delete one only when no such can be open."""

import json
from pathlib import Path

import pytest
import temporalio.workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from integrations.temporal.worker import sandbox
from workflows.registry import WORKFLOWS

HISTORIES = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "histories").glob("*.json"))}


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_stored_history_replays(name: str) -> None:
    history = WorkflowHistory.from_json(name, HISTORIES[name])
    replayer = Replayer(workflows=list(WORKFLOWS), data_converter=pydantic_data_converter, workflow_runner=sandbox())
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", [temporalio.workflow._Definition.must_from_class(kind).name for kind in WORKFLOWS])
def test_a_workflow_type_has_stored_histories(name: str) -> None:
    started = [json.loads(text)["events"][0] for text in HISTORIES.values()]
    types = [event["workflowExecutionStartedEventAttributes"]["workflowType"]["name"] for event in started]
    assert name in types


@pytest.mark.parametrize("case", ["recorded", "all-refused", "ledger-away", "broker-away", "digest-mismatch"])
def test_every_end_of_a_batch_is_stored(case: str) -> None:
    assert f"submit-votes-{case}" in HISTORIES


@pytest.mark.parametrize(
    "case",
    [
        "active",
        "already-registered",
        "appealed",
        "cancelled",
        "cancelled-by-staff",
        "claim-contradicted",
        "codes-used-up",
        "contact-expired",
        "duplicate-face",
        "expired",
        "gone",
        "mail-in-use",
        "mail-refused",
        "provider-away",
        "provider-refuses",
        "registered-elsewhere",
        "rejected",
        "retried",
        "reversed-while-claiming",
        "under-age",
    ],
)
def test_every_end_of_a_registration_is_stored(case: str) -> None:
    assert any(name.startswith(f"register-voter-{case}") for name in HISTORIES)


@pytest.mark.parametrize(
    "case", ["active", "acted-on", "reversed", "rechecked", "expired", "rejected", "duplicate-face"]
)
def test_every_end_of_a_case_is_stored(case: str) -> None:
    assert any(name.startswith(f"verify-identity-local-{case}") for name in HISTORIES)
    assert any(name.startswith(f"verify-identity-{case}") for name in HISTORIES)  # as releases before began them


@pytest.mark.parametrize(
    "case",
    [
        "allowed",
        "denied-challenge_failed",
        "denied-device_refused",
        "denied-without-factor",
        "directory-away",
        "expired",
        "step-up-failed",
        "stepped-up-challenge_unavailable",
        "stepped-up-device_unavailable",
        "stepped-up-leak_unknown",
        "stepped-up-new_device",
    ],
)
def test_every_end_of_a_login_is_stored(case: str) -> None:
    assert f"assess-login-one-step-{case}" in HISTORIES
    assert f"assess-login-one-look-{case}" in HISTORIES  # as releases before `assess_login` began them
    assert f"assess-login-{case}" in HISTORIES  # as releases before `look_at_login` began them


@pytest.mark.parametrize(
    "case",
    [
        "delete-account-deleted",
        "delete-account-looked-now",
        "delete-account-vendor-away",
        "delete-account-vendor-refuses",
        "delete-account-cell-away",
        "delete-account-registration-open",
        "delete-account-mail-refused",
        "recover-account-nobody",
        "recover-account-at-provider",
        "recover-account-escalated",
        "recover-account-recovered",
        "recover-account-untold",
        "recover-account-expired",
        "recover-account-mail-refused",
        "recover-account-mail-away",
        "recover-account-directory-away",
    ],
)
def test_every_end_of_an_account_is_stored(case: str) -> None:
    assert case in HISTORIES


@pytest.mark.parametrize("case", ["read", "refused", "expired"])
def test_every_end_of_an_unmasking_is_stored(case: str) -> None:
    assert f"break-glass-{case}" in HISTORIES


@pytest.mark.parametrize("case", ["due", "nothing-due", "personal", "hashes", "tokens"])
def test_every_way_of_a_rotation_is_stored(case: str) -> None:
    assert f"rotate-keys-{case}" in HISTORIES


def test_a_stored_history_tells_nothing_of_the_machine_that_made_it() -> None:
    words = ("stackTrace", "site-packages")
    assert [(name, word) for name, text in HISTORIES.items() for word in words if word in text] == []
