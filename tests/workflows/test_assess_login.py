"""Logins judged: as always, from elsewhere, without vendors, and with workers that die."""

import asyncio
import json
import sys
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowHandle, WorkflowHistory, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment
from temporalio.worker import Replayer

from domain.contracts.login import (
    AssessedLogin,
    ChallengeOutcome,
    CredentialLeak,
    JudgedLogin,
    LoginDecision,
    LoginOutcome,
    LoginVerdict,
    StepUpFactor,
)
from domain.credentials import CredentialKind
from domain.devices import DeviceFlag
from domain.errors import ErrorCode
from domain.login_risk import CURRENT_LOGIN_POLICY, LoginReason
from domain.logins import STEP_UP_FAILURES_MAX, rejudge
from domain.sessions import LoginMethod
from integrations.temporal.worker import sandbox
from tests.workflows.hooked import live_with_a_death, named_steps
from tests.workflows.login_world import LoggingIn
from tests.workflows.registration_world import happens
from workflows.assess_login import AssessLoginWorkflow

Login = WorkflowHandle[AssessLoginWorkflow, AssessedLogin]
SERVER = Path(sys.executable).parent / "temporal-test-server"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(SERVER), data_converter=pydantic_data_converter
    ) as environment:
        yield environment


async def ended(world: LoggingIn, name: str = "") -> AssessedLogin:
    async with asyncio.timeout(60), world.worker():
        result = await (await world.start()).result()
    await world.replayed(name)
    return result


async def challenged(world: LoggingIn) -> Login:
    """Begin a login that waits for a further factor."""
    handle = await world.start()
    await happens(lambda: world.attempt_id in world.kept.rows)
    assert world.row.outcome is None, world.row
    return handle


async def refused(awaited: Awaitable[Any]) -> str | None:
    with pytest.raises((WorkflowUpdateFailedError, RPCError)) as failure:
        await awaited
    if isinstance(failure.value, RPCError):
        return ErrorCode.LOGIN_NOT_FOUND if failure.value.status.name == "NOT_FOUND" else failure.value.status.name
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    return cause.type


def last_in_new_york() -> tuple[bytes, datetime]:
    return repr({"latitude": "40.71", "longitude": "-74.01"}).encode(), datetime.now(UTC) - timedelta(hours=1)


async def test_a_login_as_always_is_allowed_in_one_task(client: Client) -> None:
    world = LoggingIn(client)
    result = await ended(world, "allowed")
    assert (result.outcome, result.verdict.decision) == (LoginOutcome.ALLOWED, LoginDecision.ALLOW)
    assert world.kept.added == [world.attempt_id]
    assert len(world.vendors.keys) == 1
    history = await world.handle.fetch_history()
    kinds = [event.event_type for event in history.events]
    assert len(kinds) == 6  # started, one task of three events, a marker, completed: nothing waits for a queue
    signals = world.row.signals
    assert (signals.device_known, signals.challenge) == (True, ChallengeOutcome.PASSED)
    assert (signals.account_attempts_per_hour, signals.network_attempts_per_minute) == (2, 11)
    assert {len(sighting.mine) for sighting in signals.sightings} == {1, 3}


LOOKS = {  # how releases of before look at a login
    "one look": {"look_at_login"},
    "three looks": {"look_at_device", "redeem_challenge", "read_logins"},
}


@pytest.mark.parametrize("looks", LOOKS)
async def test_a_login_that_an_earlier_release_began_goes_on_as_it_began(client: Client, looks: str) -> None:
    world = LoggingIn(client)
    world.one_step, world.one_look, world.kept.knows_device = False, looks == "one look", False
    async with asyncio.timeout(60), world.worker(max_cached_workflows=0):
        await challenged(world)
        await world.step_up(passed=True)
        await world.handle.result()
    assert world.counted == Counter(LOOKS[looks] | {"record_login", "end_login"})
    assert world.kept.added == [world.attempt_id]
    await world.replayed()


async def test_a_step_that_is_repeated_stays_with_what_it_saw_at_first(client: Client) -> None:
    world = LoggingIn(client)
    world.kept.knows_device = False
    request = await world.request()
    first = await ActivityEnvironment().run(world.activities.assess_login, request)
    assert (first.outcome, first.factors) == (None, (StepUpFactor.TOTP,))
    assert first.counts is not None
    world.vendors.passes, world.kept.knows_device, world.kept.owned = False, True, set()
    again = await ActivityEnvironment().run(world.activities.assess_login, request)
    assert again.counts is not None
    assert again.model_dump(exclude={"counts"}) == first.model_dump(exclude={"counts"})
    assert rejudge(world.row, CURRENT_LOGIN_POLICY) == again.verdict


async def test_a_verdict_that_does_not_follow_from_its_signals_does_not_replay(client: Client) -> None:
    world = LoggingIn(client)
    await ended(world)
    history = (await world.handle.fetch_history()).to_json()
    kept = world.row.verdict
    other = kept.model_copy(update={"score_permille": kept.score_permille + 1})
    forged = _with_verdict(history, other)
    assert forged != history
    replayer = Replayer(
        workflows=[AssessLoginWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
    )
    await replayer.replay_workflow(WorkflowHistory.from_json(world.handle.id, history))
    with pytest.raises(RuntimeError, match="does not follow from its signals"):
        await replayer.replay_workflow(WorkflowHistory.from_json(world.handle.id, forged))


def _with_verdict(history: str, verdict: LoginVerdict) -> str:
    """Return a history whose one marker says that another verdict was recorded."""
    events = json.loads(history)
    (marker,) = [event for event in events["events"] if "markerRecordedEventAttributes" in event]
    (payload,) = marker["markerRecordedEventAttributes"]["details"]["result"]["payloads"]
    judged = JudgedLogin.model_validate_json(b64decode(payload["data"]))
    forged = judged.model_copy(update={"verdict": verdict}).model_dump_json()
    payload["data"] = b64encode(forged.encode()).decode()
    return json.dumps(events)


async def test_the_history_names_neither_device_nor_place(client: Client) -> None:
    world = LoggingIn(client)
    await ended(world)
    history = (await world.handle.fetch_history()).to_json()
    for secret in ("a device", "192.0.2", "A client", "64500"):
        assert secret not in history


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda world: setattr(world.vendors, "passes", False), LoginReason.CHALLENGE_FAILED),
        (lambda world: setattr(world.vendors, "flags", frozenset({DeviceFlag.BOT})), LoginReason.DEVICE_REFUSED),
        (
            lambda world: setattr(world.vendors, "device_failure", ErrorCode.DEVICE_EVENT_INVALID),
            LoginReason.DEVICE_REFUSED,
        ),
    ],
    ids=["no human", "bot", "no event"],
)
async def test_what_the_policy_refuses_is_denied(
    client: Client, change: Callable[[LoggingIn], None], reason: LoginReason
) -> None:
    world = LoggingIn(client)
    change(world)
    result = await ended(world, f"denied-{reason}")
    assert (result.outcome, result.verdict.decision) == (LoginOutcome.DENIED, LoginDecision.DENY)
    assert reason in result.verdict.reasons
    assert not world.kept.added


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda world: setattr(world.vendors, "device_failure", ErrorCode.DEVICES_UNAVAILABLE),
            LoginReason.DEVICE_UNAVAILABLE,
        ),
        (
            lambda world: setattr(world.vendors, "challenge_failure", ErrorCode.CHALLENGES_UNAVAILABLE),
            LoginReason.CHALLENGE_UNAVAILABLE,
        ),
        (lambda world: setattr(world, "leak", CredentialLeak.ABSENT), LoginReason.LEAK_UNKNOWN),
        (lambda world: setattr(world, "leak", CredentialLeak.LEAKED), LoginReason.CREDENTIAL_LEAKED),
        (lambda world: setattr(world.kept, "knows_device", False), LoginReason.NEW_DEVICE),
        (lambda world: setattr(world.kept, "place", last_in_new_york()), LoginReason.IMPOSSIBLE_TRAVEL),
    ],
    ids=["device vendor away", "challenge vendor away", "breaches away", "leaked", "new device", "travel"],
)
async def test_what_is_away_or_new_asks_for_a_further_factor(
    client: Client, change: Callable[[LoggingIn], None], reason: LoginReason
) -> None:
    world = LoggingIn(client)
    change(world)
    async with asyncio.timeout(60), world.worker():
        await challenged(world)
        assert reason in world.row.verdict.reasons
        assert world.row.factors == (StepUpFactor.TOTP,)
        assert not world.kept.added
        state = await world.step_up(passed=True)
        assert state.outcome is LoginOutcome.STEPPED_UP
        assert (await world.handle.result()).outcome is LoginOutcome.STEPPED_UP
    assert world.kept.added == [world.attempt_id]
    await world.replayed(f"stepped-up-{reason}")


async def test_vendors_that_nobody_has_set_up_are_away(client: Client) -> None:
    world = LoggingIn(client)
    world.has_vendors = False
    async with asyncio.timeout(60), world.worker():
        await challenged(world)
    assert {LoginReason.DEVICE_UNAVAILABLE, LoginReason.CHALLENGE_UNAVAILABLE} <= set(world.row.verdict.reasons)


async def test_who_has_no_further_factor_is_denied_at_once(client: Client) -> None:
    world = LoggingIn(client, method=LoginMethod.MAIL_CODE)
    world.kept.owned = set()
    world.kept.knows_device = False
    result = await ended(world, "denied-without-factor")
    assert (result.outcome, result.verdict.decision) == (LoginOutcome.DENIED, LoginDecision.CHALLENGE)


async def test_who_has_an_app_is_asked_for_it_however_the_login_began(client: Client) -> None:
    for method, factors in (
        (LoginMethod.MAIL_CODE, (StepUpFactor.TOTP,)),
        (LoginMethod.PASSWORD, (StepUpFactor.TOTP,)),
        (LoginMethod.PASSKEY, (StepUpFactor.TOTP,)),
        (LoginMethod.OIDC, (StepUpFactor.IDP, StepUpFactor.TOTP, StepUpFactor.PASSKEY)),
    ):
        world = LoggingIn(client, method=method)
        world.kept.owned = {CredentialKind.TOTP, CredentialKind.PASSWORD, CredentialKind.PASSKEY}
        if method is not LoginMethod.OIDC:
            world.kept.owned.remove(CredentialKind.PASSKEY)
        world.second_factor_at_provider = method is LoginMethod.OIDC
        world.kept.knows_device = False
        async with asyncio.timeout(60), world.worker():
            await challenged(world)
            assert world.row.factors == factors
            assert await refused(world.step_up(passed=True, factor=StepUpFactor.RECOVERY_CODE)) == "factor_not_found"
            assert (await world.step_up(passed=True)).outcome is LoginOutcome.STEPPED_UP


async def test_five_wrong_factors_end_it_also_at_once(client: Client) -> None:
    world = LoggingIn(client)
    world.kept.knows_device = False
    async with asyncio.timeout(60), world.worker():
        await challenged(world)
        states = [await world.step_up(passed=False) for _ in range(STEP_UP_FAILURES_MAX - 1)]
        assert [state.failures_left for state in states] == [4, 3, 2, 1]
        late = await asyncio.gather(*(world.step_up(passed=False) for _ in range(4)), return_exceptions=True)
        last = [state for state in late if not isinstance(state, BaseException)]
        assert [state.outcome for state in last] == [LoginOutcome.STEP_UP_FAILED]
        assert (await world.handle.result()).outcome is LoginOutcome.STEP_UP_FAILED
        assert await refused(world.step_up(passed=True)) == ErrorCode.LOGIN_NOT_FOUND
    assert world.row.outcome is LoginOutcome.STEP_UP_FAILED
    assert not world.kept.added
    await world.replayed("step-up-failed")


async def test_of_many_good_factors_at_once_one_counts(client: Client) -> None:
    world = LoggingIn(client)
    world.kept.knows_device = False
    async with asyncio.timeout(60), world.worker(max_cached_workflows=0):
        await challenged(world)
        answers = await asyncio.gather(*(world.step_up(passed=True) for _ in range(5)), return_exceptions=True)
        assert len([answer for answer in answers if not isinstance(answer, BaseException)]) == 1
        await world.handle.result()
    assert world.kept.added == [world.attempt_id]
    await world.replayed()


async def test_who_brings_no_factor_in_ten_minutes_is_too_late(skipping: WorkflowEnvironment) -> None:
    world = LoggingIn(skipping.client)
    world.kept.knows_device = False
    async with asyncio.timeout(60), world.worker():
        handle = await challenged(world)
        result = await handle.result()
    assert result.outcome is LoginOutcome.EXPIRED
    assert world.row.outcome is LoginOutcome.EXPIRED
    assert not world.kept.added
    await world.replayed("expired")


async def test_a_directory_that_is_away_ends_in_a_record(client: Client) -> None:
    world = LoggingIn(client)
    world.kept.failures = [ErrorCode.DIRECTORY_UNAVAILABLE] * 8
    result = await ended(world, "directory-away")
    assert result.outcome is LoginOutcome.ALLOWED
    assert world.kept.added == [world.attempt_id]


STEPS = {
    "one step": {"assess_login", "end_login"},
    **{looks: steps | {"record_login", "end_login"} for looks, steps in LOOKS.items()},
}


def test_every_step_of_a_login_is_in_a_walk() -> None:
    assert set().union(*STEPS.values()) == named_steps(AssessLoginWorkflow)


@pytest.mark.parametrize("looks", STEPS)
async def test_a_worker_that_dies_after_any_step_changes_nothing(client: Client, looks: str) -> None:
    steps = STEPS[looks]
    lived = await asyncio.gather(*(killed_after(client, step, looks) for step in range(1, len(steps) + 1)))
    assert {died_after for _, died_after in lived} == steps
    for world, _ in lived:
        assert world.row.outcome is LoginOutcome.STEPPED_UP
        assert world.kept.added == [world.attempt_id]
        assert len(world.vendors.keys) == 1  # the vendor sees one and the same request
        await world.replayed()


async def killed_after(client: Client, step: int, looks: str) -> tuple[LoggingIn, str]:
    """Live through a challenged login with a worker that dies as `live_with_a_death` says."""
    world = LoggingIn(client)
    world.one_step, world.one_look, world.kept.knows_device = looks == "one step", looks == "one look", False

    async def live() -> None:
        await world.start()
        await happens(lambda: world.attempt_id in world.kept.rows)
        while world.row.outcome is None:
            try:
                async with asyncio.timeout(20):
                    await world.step_up(passed=True)
            except (RPCError, WorkflowUpdateFailedError, TimeoutError):
                await asyncio.sleep(0.05)
        await world.handle.result()

    async with asyncio.timeout(60):
        return world, await live_with_a_death(world, step, live())


async def test_a_recorded_login_is_judged_again_and_under_another_policy(client: Client) -> None:
    world = LoggingIn(client)
    await ended(world)
    assert rejudge(world.row, CURRENT_LOGIN_POLICY) == world.row.verdict
    strict = replace(CURRENT_LOGIN_POLICY, version=2, challenge_from_permille=0)
    assert rejudge(world.row, strict).decision is LoginDecision.CHALLENGE
