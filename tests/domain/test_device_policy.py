"""Device events: which are of this request, which devices are refused for what, and what raises the risk."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.device_policy import (
    CURRENT_DEVICE_POLICY,
    DEVICE_POLICIES,
    Allowance,
    DeviceCircumstances,
    DeviceDecision,
    DeviceReason,
    DeviceUse,
    DeviceVerdict,
    judge_device,
    judge_flags,
)
from domain.devices import DeviceEvent, DeviceFlag
from domain.errors import ErrorCode

NOW = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
EVENT = DeviceEvent(
    event_id="1700000000000.TESTab",
    at=NOW - timedelta(seconds=10),
    device_id="AbCdEfGhIjKlMnOpQrSt",
    confidence=0.99,
    linked_id="nonce-1",
    ip_address="192.0.2.7",
    origin="https://vote.example",
)
REQUEST = DeviceCircumstances(now=NOW, nonce="nonce-1", used_before=False, client_address="192.0.2.8")
MANIPULATED = [
    DeviceFlag.EMULATOR,
    DeviceFlag.ROOTED,
    DeviceFlag.JAILBROKEN,
    DeviceFlag.CLONED_APP,
    DeviceFlag.TAMPERED,
    DeviceFlag.HOOKED,
]


def judge(
    use: DeviceUse = DeviceUse.REGISTRATION, request: DeviceCircumstances = REQUEST, **fields: Any
) -> DeviceVerdict:
    return judge_device(replace(EVENT, **fields), request, use, CURRENT_DEVICE_POLICY)


@pytest.mark.parametrize("use", DeviceUse)
def test_a_plain_device_is_accepted_for_everything(use: DeviceUse) -> None:
    verdict = judge(use)
    assert verdict == DeviceVerdict(DeviceDecision.ACCEPTED, 0, (), 1)
    assert verdict.error is None


@pytest.mark.parametrize("use", DeviceUse)
@pytest.mark.parametrize(
    ("fields", "request_fields", "reason"),
    [
        ({"at": NOW - timedelta(minutes=5, milliseconds=1)}, {}, DeviceReason.EVENT_OLD),
        ({"at": NOW + timedelta(seconds=31)}, {}, DeviceReason.EVENT_AHEAD),
        ({"flags": frozenset({DeviceFlag.REPLAYED})}, {}, DeviceReason.EVENT_REPLAYED),
        ({}, {"used_before": True}, DeviceReason.EVENT_USED),
        ({"linked_id": "nonce-2"}, {}, DeviceReason.NONCE_MISMATCH),
        ({"linked_id": ""}, {"nonce": ""}, DeviceReason.NONCE_MISMATCH),
        ({"linked_id": "nönce"}, {}, DeviceReason.NONCE_MISMATCH),
        ({"complete": False}, {}, DeviceReason.EVENT_INCOMPLETE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_event_of_another_request_proves_nothing(
    use: DeviceUse, fields: dict[str, Any], request_fields: dict[str, Any], reason: DeviceReason
) -> None:
    verdict = judge(use, replace(REQUEST, **request_fields), **fields)
    assert (verdict.decision, verdict.reasons) == (DeviceDecision.INVALID, (reason,))
    assert verdict.error is ErrorCode.DEVICE_EVENT_INVALID


def test_an_event_within_its_age_and_a_little_ahead_counts() -> None:
    assert judge(at=NOW - timedelta(minutes=5)).decision is DeviceDecision.ACCEPTED
    assert judge(at=NOW + timedelta(seconds=30)).decision is DeviceDecision.ACCEPTED


def test_every_reason_against_an_event_is_named() -> None:
    verdict = judge(at=NOW - timedelta(hours=1), linked_id="other", flags=frozenset({DeviceFlag.ROOTED}))
    assert verdict.reasons == (DeviceReason.EVENT_OLD, DeviceReason.NONCE_MISMATCH)


@pytest.mark.parametrize("use", DeviceUse)
def test_an_event_from_a_page_that_is_not_ours_counts_for_nothing(use: DeviceUse) -> None:
    elsewhere = judge(use, is_ours=False)
    assert (elsewhere.decision, elsewhere.reasons) == (DeviceDecision.INVALID, (DeviceReason.ORIGIN_UNEXPECTED,))


@pytest.mark.parametrize("flag", MANIPULATED)
def test_manipulated_devices_neither_register_nor_vote_but_may_log_in_with_a_further_proof(flag: DeviceFlag) -> None:
    for use in (DeviceUse.REGISTRATION, DeviceUse.VOTING):
        refused = judge(use, flags=frozenset({flag}))
        assert (refused.decision, refused.reasons) == (DeviceDecision.REFUSED, (flag,))
        assert refused.error is ErrorCode.DEVICE_REFUSED
    for use in (DeviceUse.LOGIN, DeviceUse.RECOVERY):
        risky = judge(use, flags=frozenset({flag}))
        assert (risky.decision, risky.reasons) == (DeviceDecision.RISKY, (flag,))
        assert risky.error is ErrorCode.STEP_UP_REQUIRED


@pytest.mark.parametrize("use", DeviceUse)
def test_programs_are_refused_everywhere(use: DeviceUse) -> None:
    assert judge(use, flags=frozenset({DeviceFlag.BOT})).decision is DeviceDecision.REFUSED


def test_what_is_suspicious_adds_up() -> None:
    vpn = judge(flags=frozenset({DeviceFlag.VPN}))
    assert (vpn.decision, vpn.score_permille, vpn.reasons) == (DeviceDecision.ACCEPTED, 150, ("vpn",))
    more = judge(flags=frozenset({DeviceFlag.VPN, DeviceFlag.PROXY, DeviceFlag.VIRTUAL_MACHINE}))
    assert (more.decision, more.score_permille) == (DeviceDecision.RISKY, 700)
    assert more.reasons == ("proxy", "virtual_machine", "vpn")
    everything = judge(DeviceUse.LOGIN, flags=frozenset(DeviceFlag) - {DeviceFlag.BOT, DeviceFlag.REPLAYED})
    assert everything.score_permille == 1000


def test_a_device_without_a_name_is_risky_and_cannot_register() -> None:
    assert judge(DeviceUse.LOGIN, device_id="", confidence=0.0).reasons == (DeviceReason.UNIDENTIFIED,)
    assert judge(DeviceUse.LOGIN, device_id="").decision is DeviceDecision.RISKY
    assert judge(DeviceUse.REGISTRATION, device_id="").decision is DeviceDecision.REFUSED
    unsure = judge(confidence=0.49)
    assert (unsure.score_permille, unsure.reasons) == (400, (DeviceReason.CONFIDENCE_LOW,))


def test_another_network_is_a_sign_and_no_proof() -> None:
    elsewhere = judge(ip_address="198.51.100.7")
    assert (elsewhere.decision, elsewhere.reasons) == (DeviceDecision.ACCEPTED, (DeviceReason.ADDRESS_DIFFERS,))


@pytest.mark.parametrize(
    ("accounts", "decision", "score"),
    [
        (0, DeviceDecision.ACCEPTED, 0),
        (4, DeviceDecision.ACCEPTED, 0),
        (5, DeviceDecision.ACCEPTED, 200),
        (7, DeviceDecision.RISKY, 600),
        (9, DeviceDecision.RISKY, 1000),
        (10, DeviceDecision.REFUSED, 1000),
    ],
)
def test_many_accounts_on_one_device(accounts: int, decision: DeviceDecision, score: int) -> None:
    verdict = judge(request=replace(REQUEST, accounts_on_device=accounts))
    assert (verdict.decision, verdict.score_permille) == (decision, score)
    assert verdict.reasons == ((DeviceReason.MANY_ACCOUNTS_ON_DEVICE,) if score else ())


def test_many_devices_on_one_account_raise_the_risk_and_never_refuse() -> None:
    verdict = judge(DeviceUse.VOTING, replace(REQUEST, devices_on_account=12))
    assert (verdict.decision, verdict.reasons) == (DeviceDecision.RISKY, (DeviceReason.MANY_DEVICES_ON_ACCOUNT,))
    assert judge(DeviceUse.VOTING, replace(REQUEST, devices_on_account=1000)).decision is DeviceDecision.RISKY


def test_a_refusal_names_also_what_raised_the_risk() -> None:
    verdict = judge(
        request=replace(REQUEST, accounts_on_device=5), flags=frozenset({DeviceFlag.ROOTED, DeviceFlag.VPN})
    )
    assert verdict.reasons == ("rooted", "vpn", "many_accounts_on_device")


def test_the_same_facts_can_be_judged_under_another_version() -> None:
    rules = replace(CURRENT_DEVICE_POLICY.rules[DeviceUse.VOTING], refusing=frozenset())
    milder = replace(CURRENT_DEVICE_POLICY, version=2, rules={DeviceUse.VOTING: rules})
    rooted = replace(EVENT, flags=frozenset({DeviceFlag.ROOTED}))
    assert judge_device(rooted, REQUEST, DeviceUse.VOTING, DEVICE_POLICIES[1]).decision is DeviceDecision.REFUSED
    again = judge_device(rooted, REQUEST, DeviceUse.VOTING, milder)
    assert (again.decision, again.policy_version) == (DeviceDecision.ACCEPTED, 2)


def test_versions_are_what_they_are_called() -> None:
    assert all(policy.version == version for version, policy in DEVICE_POLICIES.items())
    assert all(set(policy.rules) == set(DeviceUse) for policy in DEVICE_POLICIES.values())


def test_flags_and_reasons_share_no_code() -> None:
    assert not set(map(str, DeviceFlag)) & set(map(str, DeviceReason))


def test_an_allowance_without_an_end_never_refuses() -> None:
    assert not Allowance(1, 100).refuses(10**6)
    assert Allowance(1, 100, refuse_from=3).refuses(3)


@pytest.mark.parametrize("use", DeviceUse)
@pytest.mark.parametrize("flags", [(), *((flag,) for flag in DeviceFlag), (DeviceFlag.VPN, DeviceFlag.ROOTED)])
def test_flags_of_an_earlier_event_mean_what_they_mean_in_one_of_this_request(
    use: DeviceUse, flags: tuple[DeviceFlag, ...]
) -> None:
    known = frozenset(flags) - {DeviceFlag.REPLAYED}  # of an event, and not of a device
    assert judge_flags([*known, "a flag of a later release"], use, CURRENT_DEVICE_POLICY) == judge(use, flags=known)
