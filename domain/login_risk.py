"""The risk of a login: how unlike the voter's own history it is, and what else speaks against it.

Source of the score: Freeman, Jain, Duermuth, Biggio and Giacinto, "Who Are You? A Statistical Approach to Measuring
User Authenticity", NDSS 2016, section III: the odds of an attack are, up to a constant, the product over the features
of p(x) / p(x | u), with p(x) from everyone's logins and p(x | u) from this voter's. The factor p(u | attack) / p(u) is
left at 1: nothing says that a voter who logs in rarely is attacked more. Section IV: p(x | u) is smoothed by linear
interpolation over the levels of a feature (an address, its operator, its country), since most honest novelty is a new
value inside a known coarser one.

Judging is a function of signals and policy alone, so a decision that kept its signals can be judged again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from domain.contracts.login import (
    ChallengeOutcome,
    CredentialLeak,
    FeatureSighting,
    LoginDecision,
    LoginFeature,
    LoginSignals,
    LoginVerdict,
)

_EARTH_RADIUS_KM: Final = 6371.0


class LoginReason(StrEnum):
    """What staff read beside the device's reasons."""

    UNLIKE_HISTORY = "unlike_history"
    NEW_DEVICE = "new_device"
    DEVICE_REFUSED = "device_refused"
    DEVICE_UNAVAILABLE = "device_unavailable"
    CHALLENGE_FAILED = "challenge_failed"
    CHALLENGE_UNAVAILABLE = "challenge_unavailable"
    ACCOUNT_VELOCITY = "account_velocity"
    NETWORK_VELOCITY = "network_velocity"
    FAILURES = "failures"
    IMPOSSIBLE_TRAVEL = "impossible_travel"
    CREDENTIAL_LEAKED = "credential_leaked"
    LEAK_UNKNOWN = "leak_unknown"


@dataclass(frozen=True, slots=True)
class LoginPolicy:
    """The rules as data; a change is a new version.

    `level_weights`: for each feature how much of p(x | u) each level gets, finest first; they sum to less than 1, and
    the rest stays with p(x): nothing is impossible. `prior_logins`: how many logins the prior is worth against a
    voter's own. `prior_log_odds` of an attack before anything is known. `adds`: what each reason adds to the log odds.
    `forces`: the mildest decision that a reason permits, whatever the score.
    """

    version: int
    level_weights: Mapping[LoginFeature, tuple[float, ...]]
    adds: Mapping[LoginReason, float]
    forces: Mapping[LoginReason, LoginDecision]
    prior_logins: float = 3.0
    prior_log_odds: float = -6.0
    unlike_from: float = 3.0  # log of the ratio from which the history is named as a reason
    challenge_from_permille: int = 100
    deny_from_permille: int = 950
    account_attempts_per_hour: int = 20
    network_attempts_per_minute: int = 3000  # a carrier's address serves a city
    failures_per_hour: int = 5
    travel_kmh: int = 1200  # faster than an airliner


def judge_login(signals: LoginSignals, policy: LoginPolicy) -> LoginVerdict:
    """Return the decision on a login."""
    unlike = sum(log_ratio(sighting, signals, policy) for sighting in signals.sightings)
    reasons = _reasons(signals, policy)
    if unlike >= policy.unlike_from:
        reasons = (LoginReason.UNLIKE_HISTORY, *reasons)
    log_odds = policy.prior_log_odds + unlike + sum(policy.adds.get(reason, 0.0) for reason in reasons)
    score = _permille(log_odds + _device_log_odds(signals))
    decision = max((_by_score(score, policy), *(policy.forces[r] for r in reasons if r in policy.forces)), key=_RANK)
    return LoginVerdict(
        decision=decision,
        score_permille=score,
        reasons=(*(reason.value for reason in reasons), *signals.device_reasons),
        policy_version=policy.version,
    )


def log_ratio(sighting: FeatureSighting, signals: LoginSignals, policy: LoginPolicy) -> float:
    """Return log(p(x) / p(x | u)) of one feature: above 0 where it speaks for somebody else.

    0 for a voter without history: then nothing is known of p(x | u).
    """
    p_x = _everyone(sighting, 0, signals)
    trust = signals.my_logins / (signals.my_logins + policy.prior_logins)
    weights = policy.level_weights[sighting.feature]
    own = 0.0
    for level, weight in enumerate(weights):
        if signals.my_logins:
            within = p_x / _everyone(sighting, level, signals)  # p(x | the coarser value)
            own += weight * within * min(1.0, sighting.mine[level] / signals.my_logins)
    rest = 1.0 - trust * sum(weights)
    return math.log(p_x / (trust * own + rest * p_x))


def _everyone(sighting: FeatureSighting, level: int, signals: LoginSignals) -> float:
    """Return the smoothed share of all logins with the value of a level; half a login was seen of anything."""
    return (sighting.everyone[level] + 0.5) / (signals.all_logins + 1.0)


def travel_kmh(before: tuple[float, float], after: tuple[float, float], hours: float) -> int:
    """Return the speed in km/h from one place to another (latitude and longitude in degrees), by the great circle.

    Under 100 km it is 0: an address is placed no better than that. `hours` under a minute counts as one.
    """
    (lat_1, lon_1), (lat_2, lon_2) = ((math.radians(a), math.radians(b)) for a, b in (before, after))
    half = math.sin((lat_2 - lat_1) / 2) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin((lon_2 - lon_1) / 2) ** 2
    kilometres = 2 * _EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))
    return 0 if kilometres < 100 else round(kilometres / max(hours, 1 / 60))  # noqa: PLR2004


def _reasons(signals: LoginSignals, policy: LoginPolicy) -> tuple[LoginReason, ...]:
    found = {
        LoginReason.NEW_DEVICE: not signals.device_known and signals.my_logins > 0,
        LoginReason.DEVICE_REFUSED: signals.device_refused,
        LoginReason.DEVICE_UNAVAILABLE: signals.device_absent,
        LoginReason.CHALLENGE_FAILED: signals.challenge is ChallengeOutcome.FAILED,
        LoginReason.CHALLENGE_UNAVAILABLE: signals.challenge is ChallengeOutcome.ABSENT,
        LoginReason.ACCOUNT_VELOCITY: signals.account_attempts_per_hour > policy.account_attempts_per_hour,
        LoginReason.NETWORK_VELOCITY: signals.network_attempts_per_minute > policy.network_attempts_per_minute,
        LoginReason.FAILURES: signals.failures_per_hour >= policy.failures_per_hour,
        LoginReason.IMPOSSIBLE_TRAVEL: signals.travel_kmh > policy.travel_kmh,
        LoginReason.CREDENTIAL_LEAKED: signals.leak is CredentialLeak.LEAKED,
        LoginReason.LEAK_UNKNOWN: signals.leak is CredentialLeak.ABSENT,
    }
    return tuple(reason for reason, holds in found.items() if holds)


def _device_log_odds(signals: LoginSignals) -> float:
    """Return what the device policy's score adds: nothing at 0, as much as the prior takes away at 1000."""
    return 6.0 * signals.device_score_permille / 1000


def _permille(log_odds: float) -> int:
    return round(1000 / (1 + math.exp(-max(-50.0, min(50.0, log_odds)))))


def _by_score(score_permille: int, policy: LoginPolicy) -> LoginDecision:
    if score_permille >= policy.deny_from_permille:
        return LoginDecision.DENY
    return LoginDecision.CHALLENGE if score_permille >= policy.challenge_from_permille else LoginDecision.ALLOW


_RANK: Final = {decision: rank for rank, decision in enumerate(LoginDecision)}.__getitem__

LOGIN_POLICIES: Final[Mapping[int, LoginPolicy]] = MappingProxyType(
    {
        1: LoginPolicy(
            version=1,
            level_weights=MappingProxyType(
                {
                    LoginFeature.NETWORK: (0.6, 0.25, 0.1),
                    LoginFeature.CLIENT: (0.6, 0.25, 0.1),
                    LoginFeature.DEVICE: (0.9,),
                }
            ),
            adds=MappingProxyType(
                {
                    LoginReason.ACCOUNT_VELOCITY: 3.0,
                    LoginReason.NETWORK_VELOCITY: 2.0,
                    LoginReason.FAILURES: 3.0,
                    LoginReason.IMPOSSIBLE_TRAVEL: 4.0,
                    LoginReason.CREDENTIAL_LEAKED: 4.0,
                    LoginReason.NEW_DEVICE: 1.0,
                }
            ),
            # A vendor that does not answer leads to a step-up, never to an open door
            forces=MappingProxyType(
                {
                    LoginReason.DEVICE_REFUSED: LoginDecision.DENY,
                    LoginReason.CHALLENGE_FAILED: LoginDecision.DENY,
                    LoginReason.DEVICE_UNAVAILABLE: LoginDecision.CHALLENGE,
                    LoginReason.CHALLENGE_UNAVAILABLE: LoginDecision.CHALLENGE,
                    LoginReason.LEAK_UNKNOWN: LoginDecision.CHALLENGE,
                    LoginReason.CREDENTIAL_LEAKED: LoginDecision.CHALLENGE,
                    LoginReason.IMPOSSIBLE_TRAVEL: LoginDecision.CHALLENGE,
                    LoginReason.NEW_DEVICE: LoginDecision.CHALLENGE,
                }
            ),
        )
    }
)
CURRENT_LOGIN_POLICY: Final = LOGIN_POLICIES[1]
