"""Rules of admissions: at which counts a challenge and a denial come, and what session and device add to them."""

from dataclasses import replace

import pytest

from domain.devices import DeviceFlag
from domain.ports import RiskDecision, RiskVerdict
from domain.risk import Threshold, Velocity
from domain.tokens import RiskBand
from domain.vote_risk import CURRENT_VOTE_POLICY, VOTE_POLICIES, VotePolicy, VoteReason, VoteSignals, judge_vote

CALM = Velocity(1, 1, 1)
POLICY = replace(
    CURRENT_VOTE_POLICY,
    voter_attempts_per_minute=Threshold(10, 40),
    device_voters_per_hour=Threshold(5, 20),
    network_attempts_per_minute=Threshold(1000),
)


def judge(
    velocity: Velocity = CALM, *flags: DeviceFlag, band: RiskBand = RiskBand.LOW, policy: VotePolicy = POLICY
) -> RiskVerdict:
    return judge_vote(VoteSignals(velocity, band, frozenset(flag.value for flag in flags)), policy)


@pytest.mark.parametrize(
    ("velocity", "decision", "reasons"),
    [
        (Velocity(1, 0, 1), RiskDecision.ALLOW, ()),
        (Velocity(9, 4, 999), RiskDecision.ALLOW, ()),
        (Velocity(10, 0, 1), RiskDecision.CHALLENGE, (VoteReason.VOTER_VELOCITY,)),
        (Velocity(39, 0, 1), RiskDecision.CHALLENGE, (VoteReason.VOTER_VELOCITY,)),
        (Velocity(40, 0, 1), RiskDecision.DENY, (VoteReason.VOTER_VELOCITY,)),
        (Velocity(1, 5, 1), RiskDecision.CHALLENGE, (VoteReason.DEVICE_VELOCITY,)),
        (Velocity(1, 20, 1), RiskDecision.DENY, (VoteReason.DEVICE_VELOCITY,)),
        (Velocity(1, 0, 1000), RiskDecision.CHALLENGE, (VoteReason.NETWORK_VELOCITY,)),
        (Velocity(10, 5, 1), RiskDecision.CHALLENGE, (VoteReason.VOTER_VELOCITY, VoteReason.DEVICE_VELOCITY)),
    ],
)
def test_velocity_decides_and_says_which(
    velocity: Velocity, decision: RiskDecision, reasons: tuple[VoteReason, ...]
) -> None:
    verdict = judge(velocity)
    assert (verdict.decision, verdict.reasons) == (decision, reasons)


def test_a_network_alone_never_denies() -> None:
    assert judge(Velocity(1, 0, 10**9)).decision is RiskDecision.CHALLENGE


def test_risky_session_is_challenged_whatever_its_velocity() -> None:
    assert judge(band=RiskBand.MEDIUM).decision is RiskDecision.ALLOW
    risky = judge(band=RiskBand.HIGH)
    assert (risky.decision, risky.reasons) == (RiskDecision.CHALLENGE, (VoteReason.SESSION_RISK,))
    assert judge(Velocity(40, 0, 1), band=RiskBand.HIGH).decision is RiskDecision.DENY


@pytest.mark.parametrize(
    "flag",
    [
        DeviceFlag.ROOTED,
        DeviceFlag.JAILBROKEN,
        DeviceFlag.EMULATOR,
        DeviceFlag.CLONED_APP,
        DeviceFlag.HOOKED,
        DeviceFlag.TAMPERED,
        DeviceFlag.BOT,
    ],
)
def test_a_device_that_the_policy_refuses_votes_nowhere_however_calm(flag: DeviceFlag) -> None:
    verdict = judge(CALM, flag, DeviceFlag.VPN)
    assert verdict.decision is RiskDecision.DENY
    assert verdict.reasons == (VoteReason.DEVICE_REFUSED, flag, DeviceFlag.VPN)


def test_what_only_raises_the_risk_asks_for_nothing_by_itself_and_adds_to_velocity() -> None:
    risky = (DeviceFlag.TOR, DeviceFlag.VIRTUAL_MACHINE, DeviceFlag.PROXY)
    for band in (RiskBand.LOW, RiskBand.MEDIUM):
        alone = judge(CALM, *risky, band=band)
        assert alone.decision is RiskDecision.ALLOW
        assert set(alone.reasons) == set(risky)
    busy = Velocity(7, 1, 1)
    assert judge(busy).decision is RiskDecision.ALLOW
    assert judge(busy, *risky).decision is RiskDecision.CHALLENGE
    assert judge(busy, *risky).score_permille > judge(busy).score_permille


def test_the_same_signals_are_judged_again_under_another_policy() -> None:
    signals = VoteSignals(CALM, RiskBand.LOW, frozenset({DeviceFlag.ROOTED.value, "a flag of a later release"}))
    for version, decision in ((1, RiskDecision.ALLOW), (2, RiskDecision.DENY)):
        verdict = judge_vote(signals, VOTE_POLICIES[version])
        assert (verdict.decision, verdict.policy_version) == (decision, version)
        assert judge_vote(signals, VOTE_POLICIES[version]) == verdict


def test_every_policy_is_kept_under_its_version() -> None:
    assert {number: policy.version for number, policy in VOTE_POLICIES.items()} == {n: n for n in VOTE_POLICIES}
    assert CURRENT_VOTE_POLICY is VOTE_POLICIES[max(VOTE_POLICIES)]
