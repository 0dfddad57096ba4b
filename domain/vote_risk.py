"""The risk of an admission to a vote: how often who asks, and what the login has found out about session and device.

As with logins, the rules are data with a version and judging is a function of signals and policy alone, so that an
admission can be judged again under another version. Unlike a login, an admission need not bring a device event: where
it brings none, the token says how the login was judged, and the directory what the newest event said against the device
that the token names, and when.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from domain.device_policy import DEVICE_POLICIES, DeviceDecision, DeviceUse, judge_flags
from domain.ports import BroughtEvent, RiskDecision, RiskVerdict
from domain.risk import CHALLENGE_PERMILLE, DENY_PERMILLE, Threshold, Velocity
from domain.tokens import RiskBand


class VoteReason(StrEnum):
    """What staff read beside the device's flags and the reasons of its event."""

    VOTER_VELOCITY = "voter_velocity"
    DEVICE_VELOCITY = "device_velocity"
    NETWORK_VELOCITY = "network_velocity"
    SESSION_RISK = "session_risk"
    DEVICE_REFUSED = "device_refused"
    DEVICE_UNSEEN = "device_unseen"  # for longer than a policy bears where no event is brought
    DEVICE_UNAVAILABLE = "device_unavailable"  # an event was brought, and nobody can say what it is
    EVENT_INVALID = "device_event_invalid"  # it proves nothing of this request


@dataclass(frozen=True, slots=True)
class VoteSignals:
    """Everything that an admission is judged by.

    `band` is what the login said of the session. `device_flags` are those of the newest event of the session's device,
    by the values of `DeviceFlag`; none where the token names no device, or one that was never seen here.
    `device_unseen_for` and `event` are those of `AdmissionAttempt`.
    """

    velocity: Velocity
    band: RiskBand
    device_flags: frozenset[str] = frozenset()
    device_unseen_for: timedelta | None = None
    event: BroughtEvent | None = None


@dataclass(frozen=True, slots=True)
class VotePolicy:
    """The rules as data; a change is a new version.

    A voter's own retries are cheap, a family shares a device, and strangers share a network: a mobile carrier puts
    thousands behind one address, so a network alone leads to a challenge at most. `band_floors`: the score that a
    session has before anything is counted. `device_policy_version`: whose rules for voting say what a flag means; None
    where devices are not looked at. `device_share_permille`: how much of the device's score is added to the velocity's.
    It is less than a challenge, since the login has asked for a further factor already, and the next one would find the
    same device. `event_age_max`: how old the newest event of the session's device may be where the request brings none;
    under a policy that says nothing of it, no event of a request counts. `forces`: the mildest decision that a reason
    permits, whatever the score.
    """

    version: int
    voter_attempts_per_minute: Threshold
    device_voters_per_hour: Threshold
    network_attempts_per_minute: Threshold
    band_floors: Mapping[RiskBand, int]
    forces: Mapping[VoteReason, RiskDecision]
    device_policy_version: int | None = None
    device_share_permille: int = 0
    event_age_max: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Device:
    """What is known of the device: how much it raises the risk, what staff read of it, and what that rests on."""

    score_permille: int = 0
    reasons: tuple[VoteReason, ...] = ()
    signs: tuple[str, ...] = ()


def judge_vote(signals: VoteSignals, policy: VotePolicy) -> RiskVerdict:
    """Return the decision: by the worst of the rules, and by what a reason forces."""
    device = _device(signals, policy)
    velocity = {
        VoteReason.VOTER_VELOCITY: policy.voter_attempts_per_minute.score_permille(signals.velocity.voter_attempts),
        VoteReason.DEVICE_VELOCITY: policy.device_voters_per_hour.score_permille(signals.velocity.device_voters),
        VoteReason.NETWORK_VELOCITY: policy.network_attempts_per_minute.score_permille(
            signals.velocity.network_attempts
        ),
    }
    counted = max(velocity.values()) + device.score_permille * policy.device_share_permille // 1000
    scores = {**velocity, VoteReason.SESSION_RISK: policy.band_floors[signals.band]}
    reasons = [*(reason for reason, score in scores.items() if score >= CHALLENGE_PERMILLE), *device.reasons]
    score = min(1000, max(counted, policy.band_floors[signals.band]))
    forced = [policy.forces[reason] for reason in reasons if reason in policy.forces]
    return RiskVerdict(
        decision=max((_by_score(score), *forced), key=_RANK),
        score_permille=score,
        policy_version=policy.version,
        reasons=(*(reason.value for reason in reasons), *device.signs),
    )


def _device(signals: VoteSignals, policy: VotePolicy) -> _Device:
    """Return what the event says that was brought; where there is none, or it tells nothing, what the newest one said.

    One that tells nothing is a reason of its own, and so is it that the newest one is too old to go by alone.
    """
    if policy.event_age_max is None:
        return _by_newest(signals, policy)
    event = signals.event
    if event is None:
        seen = _by_newest(signals, policy)
        unseen_for = signals.device_unseen_for
        is_unseen = unseen_for is not None and unseen_for > policy.event_age_max
        return replace(seen, reasons=(*seen.reasons, VoteReason.DEVICE_UNSEEN)) if is_unseen else seen
    if event.tells:
        return _Device(event.score_permille, _refused(is_refused=event.refused), event.reasons)
    seen = _by_newest(signals, policy)
    reason = VoteReason.DEVICE_UNAVAILABLE if event.absent else VoteReason.EVENT_INVALID
    return _Device(seen.score_permille, (*seen.reasons, reason), (*seen.signs, *event.reasons))


def _by_newest(signals: VoteSignals, policy: VotePolicy) -> _Device:
    if policy.device_policy_version is None or not signals.device_flags:
        return _NOTHING_SAID
    verdict = judge_flags(signals.device_flags, DeviceUse.VOTING, DEVICE_POLICIES[policy.device_policy_version])
    is_refused = verdict.decision is DeviceDecision.REFUSED
    return _Device(verdict.score_permille, _refused(is_refused=is_refused), verdict.reasons)


def _refused(*, is_refused: bool) -> tuple[VoteReason, ...]:
    return (VoteReason.DEVICE_REFUSED,) if is_refused else ()


def _by_score(score_permille: int) -> RiskDecision:
    if score_permille >= DENY_PERMILLE:
        return RiskDecision.DENY
    return RiskDecision.CHALLENGE if score_permille >= CHALLENGE_PERMILLE else RiskDecision.ALLOW


_NOTHING_SAID: Final = _Device()
_RANK: Final = {decision: rank for rank, decision in enumerate(RiskDecision)}.__getitem__

_VELOCITY: Final = VotePolicy(
    version=1,
    voter_attempts_per_minute=Threshold(challenge_at=30, deny_at=120),
    device_voters_per_hour=Threshold(challenge_at=6, deny_at=24),
    network_attempts_per_minute=Threshold(challenge_at=600_000),
    band_floors=MappingProxyType({RiskBand.LOW: 0, RiskBand.MEDIUM: 300, RiskBand.HIGH: CHALLENGE_PERMILLE}),
    forces=MappingProxyType({}),
)
_DEVICES: Final = replace(
    _VELOCITY,
    version=2,
    device_policy_version=1,
    device_share_permille=300,
    forces=MappingProxyType({VoteReason.DEVICE_REFUSED: RiskDecision.DENY}),
)
_EVENTS: Final = replace(
    _DEVICES,
    version=3,
    event_age_max=timedelta(hours=24),  # whoever votes on the day of a login brings nothing more
    forces=MappingProxyType(
        {
            VoteReason.DEVICE_REFUSED: RiskDecision.DENY,
            VoteReason.DEVICE_UNSEEN: RiskDecision.CHALLENGE,
            VoteReason.DEVICE_UNAVAILABLE: RiskDecision.CHALLENGE,
            VoteReason.EVENT_INVALID: RiskDecision.CHALLENGE,
        }
    ),
)
VOTE_POLICIES: Final[Mapping[int, VotePolicy]] = MappingProxyType({1: _VELOCITY, 2: _DEVICES, 3: _EVENTS})
CURRENT_VOTE_POLICY: Final = _EVENTS
