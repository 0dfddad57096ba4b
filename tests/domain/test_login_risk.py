"""What makes a login risky: unlike the voter's own history, and what the world says besides."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.contracts.login import (
    ChallengeOutcome,
    CredentialLeak,
    FeatureSighting,
    LoginDecision,
    LoginFeature,
    LoginSignals,
)
from domain.login_risk import (
    CURRENT_LOGIN_POLICY,
    LOGIN_POLICIES,
    LoginPolicy,
    LoginReason,
    judge_login,
    log_ratio,
    travel_kmh,
)

POLICY = CURRENT_LOGIN_POLICY
ALL_LOGINS = 100_000
USUAL = (
    FeatureSighting(feature=LoginFeature.NETWORK, mine=(40, 45, 50), everyone=(60, 9_000, 70_000)),
    FeatureSighting(feature=LoginFeature.CLIENT, mine=(30, 50, 50), everyone=(400, 20_000, 60_000)),
    FeatureSighting(feature=LoginFeature.DEVICE, mine=(50,), everyone=(50,)),
)
ELSEWHERE = (
    FeatureSighting(feature=LoginFeature.NETWORK, mine=(0, 0, 0), everyone=(2, 100, 3_000)),
    FeatureSighting(feature=LoginFeature.CLIENT, mine=(0, 0, 0), everyone=(1, 50, 9_000)),
    FeatureSighting(feature=LoginFeature.DEVICE, mine=(0,), everyone=(0,)),
)


def signals(**fields: Any) -> LoginSignals:
    usual: dict[str, Any] = {
        "my_logins": 50,
        "all_logins": ALL_LOGINS,
        "sightings": USUAL,
        "challenge": ChallengeOutcome.PASSED,
        "device_known": True,
        "leak": CredentialLeak.NONE,
    }
    return LoginSignals(**{**usual, **fields})


def test_a_login_as_always_is_allowed() -> None:
    verdict = judge_login(signals(), POLICY)
    assert (verdict.decision, verdict.reasons, verdict.policy_version) == (LoginDecision.ALLOW, (), 1)
    assert verdict.score_permille < 5


def test_one_from_elsewhere_is_challenged_and_says_why() -> None:
    verdict = judge_login(signals(sightings=ELSEWHERE, device_known=False), POLICY)
    assert verdict.decision is LoginDecision.CHALLENGE
    assert verdict.reasons[:2] == (LoginReason.UNLIKE_HISTORY, LoginReason.NEW_DEVICE)


def test_a_first_login_is_judged_without_a_history() -> None:
    first = signals(my_logins=0, sightings=ELSEWHERE, device_known=False)
    assert sum(log_ratio(sighting, first, POLICY) for sighting in first.sightings) == pytest.approx(0)
    assert judge_login(first, POLICY).decision is LoginDecision.ALLOW


def test_a_new_address_of_the_same_operator_weighs_less_than_one_of_another_country() -> None:
    def network(mine: tuple[int, ...]) -> float:
        seen = FeatureSighting(feature=LoginFeature.NETWORK, mine=mine, everyone=(10, 9_000, 70_000))
        return log_ratio(seen, signals(), POLICY)

    known, operator, country, nothing = (network(mine) for mine in ((50, 50, 50), (0, 50, 50), (0, 0, 50), (0, 0, 0)))
    assert known < operator < country < nothing
    assert known < 0 < nothing


def test_the_ratio_is_the_papers() -> None:
    """By hand: p(x) = 60.5/100001; p(x | u) from three levels, the rest with p(x)."""
    p_x, p_operator, p_country = (60.5 / 100_001, 9_000.5 / 100_001, 70_000.5 / 100_001)
    trust = 50 / 53
    own = 0.6 * 40 / 50 + 0.25 * 45 / 50 * p_x / p_operator + 0.1 * 50 / 50 * p_x / p_country
    expected = math.log(p_x / (trust * own + (1 - trust * 0.95) * p_x))
    assert log_ratio(USUAL[0], signals(), POLICY) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "decision", "reason"),
    [
        ({"challenge": ChallengeOutcome.FAILED}, LoginDecision.DENY, "challenge_failed"),
        ({"challenge": ChallengeOutcome.ABSENT}, LoginDecision.CHALLENGE, "challenge_unavailable"),
        ({"device_absent": True}, LoginDecision.CHALLENGE, "device_unavailable"),
        ({"device_refused": True}, LoginDecision.DENY, "device_refused"),
        ({"device_known": False}, LoginDecision.CHALLENGE, "new_device"),
        ({"leak": CredentialLeak.LEAKED}, LoginDecision.CHALLENGE, "credential_leaked"),
        ({"leak": CredentialLeak.ABSENT}, LoginDecision.CHALLENGE, "leak_unknown"),
        ({"travel_kmh": 5_000}, LoginDecision.CHALLENGE, "impossible_travel"),
    ],
)
def test_what_speaks_against_a_login_as_always(fields: dict[str, Any], decision: LoginDecision, reason: str) -> None:
    verdict = judge_login(signals(**fields), POLICY)
    assert verdict.decision is decision
    assert reason in verdict.reasons


@pytest.mark.parametrize(
    ("signal", "borne", "reason"),
    [
        ("account_attempts_per_hour", POLICY.account_attempts_per_hour, "account_velocity"),
        ("network_attempts_per_minute", POLICY.network_attempts_per_minute, "network_velocity"),
        ("failures_per_hour", POLICY.failures_per_hour - 1, "failures"),
        ("travel_kmh", POLICY.travel_kmh, "impossible_travel"),
    ],
)
def test_so_much_is_borne_and_one_more_raises_the_score(signal: str, borne: int, reason: str) -> None:
    usual, more = (judge_login(signals(sightings=(), **{signal: count}), POLICY) for count in (borne, borne + 1))
    assert (usual.decision, usual.reasons) == (LoginDecision.ALLOW, ())
    assert more.reasons == (reason,)
    assert more.score_permille > usual.score_permille


def test_an_attack_with_everything_against_it_is_denied() -> None:
    verdict = judge_login(
        signals(
            sightings=ELSEWHERE,
            device_known=False,
            device_score_permille=600,
            device_reasons=("tor",),
            failures_per_hour=9,
            travel_kmh=9_000,
            leak=CredentialLeak.LEAKED,
        ),
        POLICY,
    )
    assert verdict.decision is LoginDecision.DENY
    assert verdict.reasons[-1] == "tor"


def test_another_policy_judges_the_same_signals_otherwise() -> None:
    kept = signals(device_known=False)
    tolerant = dataclasses.replace(POLICY, version=2, forces={})
    assert judge_login(kept, POLICY).decision is LoginDecision.CHALLENGE
    assert judge_login(kept, tolerant).decision is LoginDecision.ALLOW
    assert judge_login(kept, tolerant).policy_version == 2


@pytest.mark.parametrize("policy", LOGIN_POLICIES.values(), ids=lambda policy: f"version-{policy.version}")
def test_no_absence_of_a_vendor_opens_a_door(policy: LoginPolicy) -> None:
    for fields in ({"challenge": ChallengeOutcome.ABSENT}, {"device_absent": True}, {"leak": CredentialLeak.ABSENT}):
        assert judge_login(signals(**fields), policy).decision is not LoginDecision.ALLOW
    assert all(sum(weights) < 1 for weights in policy.level_weights.values())


def test_how_fast_somebody_would_have_travelled() -> None:
    glasgow, sydney, edinburgh = (55.86, -4.25), (-33.87, 151.21), (55.95, -3.19)
    assert travel_kmh(glasgow, sydney, 2.0) == pytest.approx(8_450, rel=0.02)
    assert travel_kmh(glasgow, edinburgh, 0.01) == 0
    assert travel_kmh(glasgow, glasgow, 0.0) == 0


@given(
    mine=st.lists(st.integers(0, 1000), min_size=3, max_size=3),
    everyone=st.lists(st.integers(0, 10**9), min_size=3, max_size=3),
    logins=st.integers(0, 1000),
    total=st.integers(0, 10**9),
)
def test_every_history_has_a_score(mine: list[int], everyone: list[int], logins: int, total: int) -> None:
    seen = FeatureSighting(feature=LoginFeature.NETWORK, mine=tuple(mine), everyone=tuple(everyone))
    verdict = judge_login(signals(my_logins=logins, all_logins=total, sightings=(seen,)), POLICY)
    assert 0 <= verdict.score_permille <= 1000
