"""Rules of admissions: at which counts a challenge and a denial come, and what session and device add to them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.devices import DeviceFlag
from domain.ports import BroughtEvent, RiskDecision, RiskVerdict
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


@pytest.mark.parametrize(
    ("unseen_for", "decision"),
    [
        (None, RiskDecision.ALLOW),  # the token names no device
        (timedelta(hours=-1), RiskDecision.ALLOW),
        (timedelta(hours=24), RiskDecision.ALLOW),
        (timedelta(hours=24, microseconds=1), RiskDecision.CHALLENGE),
        (timedelta.max, RiskDecision.CHALLENGE),
    ],
)
def test_a_device_that_was_not_seen_lately_needs_a_step_up(
    unseen_for: timedelta | None, decision: RiskDecision
) -> None:
    signals = VoteSignals(CALM, RiskBand.LOW, frozenset(), unseen_for)
    verdict = judge_vote(signals, POLICY)
    assert verdict.decision is decision
    assert verdict.reasons == ((VoteReason.DEVICE_UNSEEN,) if decision is RiskDecision.CHALLENGE else ())
    for version in (1, 2):
        assert judge_vote(signals, VOTE_POLICIES[version]).decision is RiskDecision.ALLOW
    brought = judge_vote(replace(signals, event=BroughtEvent()), POLICY)
    assert (brought.decision, brought.reasons) == (RiskDecision.ALLOW, ())


@pytest.mark.parametrize("stored", [frozenset[str](), frozenset({"rooted"})])
def test_an_event_that_is_brought_stands_for_all_of_before(stored: frozenset[str]) -> None:
    clean = VoteSignals(CALM, RiskBand.LOW, stored, timedelta(hours=1), BroughtEvent())
    assert judge_vote(clean, POLICY).decision is RiskDecision.ALLOW
    rooted = judge_vote(replace(clean, event=BroughtEvent(1000, ("rooted",), refused=True)), POLICY)
    assert (rooted.decision, rooted.reasons) == (RiskDecision.DENY, (VoteReason.DEVICE_REFUSED, "rooted"))
    for version in (1, 2):  # whose admissions brought none
        policy, before = VOTE_POLICIES[version], replace(clean, event=None, device_unseen_for=None)
        assert judge_vote(replace(clean, event=BroughtEvent(absent=True)), policy) == judge_vote(before, policy)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (BroughtEvent(absent=True), VoteReason.DEVICE_UNAVAILABLE),
        (BroughtEvent(reasons=("event_old",), invalid=True), VoteReason.EVENT_INVALID),
    ],
)
def test_an_event_that_tells_nothing_never_opens(event: BroughtEvent, reason: VoteReason) -> None:
    calm = VoteSignals(CALM, RiskBand.LOW, frozenset(), timedelta(hours=1), event)
    verdict = judge_vote(calm, POLICY)
    assert (verdict.decision, verdict.reasons) == (RiskDecision.CHALLENGE, (reason, *event.reasons))
    rooted = judge_vote(replace(calm, device_flags=frozenset({"rooted"})), POLICY)  # as without it: it is no way around
    assert (rooted.decision, rooted.reasons[:2]) == (RiskDecision.DENY, (VoteReason.DEVICE_REFUSED, reason))


def test_what_an_event_says_adds_to_velocity_as_before() -> None:
    busy = VoteSignals(Velocity(7, 1, 1), RiskBand.LOW, event=BroughtEvent())
    assert judge_vote(busy, POLICY).decision is RiskDecision.ALLOW
    assert judge_vote(replace(busy, event=BroughtEvent(700, ("tor",))), POLICY).decision is RiskDecision.CHALLENGE


def test_every_policy_is_kept_under_its_version() -> None:
    assert {number: policy.version for number, policy in VOTE_POLICIES.items()} == {n: n for n in VOTE_POLICIES}
    assert CURRENT_VOTE_POLICY is VOTE_POLICIES[max(VOTE_POLICIES)]
