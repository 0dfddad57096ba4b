"""Velocity rules: at which counts a challenge and a denial come."""

import pytest

from domain.ports import RiskDecision
from domain.risk import CHALLENGE_PERMILLE, DENY_PERMILLE, Threshold, Velocity, VelocityPolicy, judge, network_of
from domain.tokens import RiskBand

POLICY = VelocityPolicy(
    voter_attempts_per_minute=Threshold(10, 40),
    device_voters_per_hour=Threshold(5, 20),
    network_attempts_per_minute=Threshold(1000),
)


@pytest.mark.parametrize(
    ("velocity", "decision"),
    [
        (Velocity(1, 0, 1), RiskDecision.ALLOW),
        (Velocity(9, 4, 999), RiskDecision.ALLOW),
        (Velocity(10, 0, 1), RiskDecision.CHALLENGE),
        (Velocity(39, 0, 1), RiskDecision.CHALLENGE),
        (Velocity(40, 0, 1), RiskDecision.DENY),
        (Velocity(1, 5, 1), RiskDecision.CHALLENGE),
        (Velocity(1, 20, 1), RiskDecision.DENY),
        (Velocity(1, 0, 1000), RiskDecision.CHALLENGE),
    ],
)
def test_decision(velocity: Velocity, decision: RiskDecision) -> None:
    assert judge(velocity, RiskBand.LOW, POLICY).decision is decision


def test_a_network_alone_never_denies() -> None:
    assert judge(Velocity(1, 0, 10**9), RiskBand.LOW, POLICY).decision is RiskDecision.CHALLENGE


def test_risky_session_is_challenged_whatever_its_velocity() -> None:
    calm = Velocity(1, 1, 1)
    assert judge(calm, RiskBand.MEDIUM, POLICY).decision is RiskDecision.ALLOW
    assert judge(calm, RiskBand.HIGH, POLICY).decision is RiskDecision.CHALLENGE
    assert judge(Velocity(40, 0, 1), RiskBand.HIGH, POLICY).decision is RiskDecision.DENY


def test_score_rises_with_the_count_and_stays_in_its_range() -> None:
    threshold = Threshold(5, 20)
    scores = [threshold.score_permille(count) for count in range(500)]
    assert scores == sorted(scores)
    assert (scores[0], scores[5], scores[20], scores[-1]) == (0, CHALLENGE_PERMILLE, DENY_PERMILLE, 1000)
    assert scores[19] < DENY_PERMILLE


def test_verdict_names_the_version_of_its_rules() -> None:
    assert judge(Velocity(1, 0, 1), RiskBand.LOW, VelocityPolicy(version=7)).policy_version == 7


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("", "unknown"),
        ("unix", "unknown"),
    ],
)
def test_network_of_a_client(client: str, network: str) -> None:
    assert network_of(client) == network
