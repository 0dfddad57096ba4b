"""Logins as they are kept: what each was judged by, how it ended, and what a voter's history is made of."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Protocol

from domain.accounts import KeyedHash
from domain.contracts.login import (
    AssessLoginInput,
    EndLoginInput,
    FeatureCount,
    FeatureSighting,
    FeatureValue,
    LoginCounts,
    LoginFeature,
    LoginOutcome,
    LoginSight,
    LoginSignals,
    LoginVerdict,
    LookAtDeviceInput,
    ReadLoginsInput,
    RecordLoginInput,
    RedeemChallengeInput,
    StepUpFactor,
)
from domain.contracts.registration import HashedValue
from domain.credentials import CredentialKind
from domain.device_events import EventUse
from domain.device_sightings import NEVER_SEEN, DeviceCorrelation
from domain.login_risk import LoginPolicy, judge_login
from domain.sessions import LoginMethod

STEP_UP_LIFETIME: Final = timedelta(minutes=10)
STEP_UP_FAILURES_MAX: Final = 5
VENDOR_WITHIN_S: Final = 1.5  # a person waits: who does not answer by then is away
LEVELS: Final[Mapping[LoginFeature, int]] = MappingProxyType(
    {LoginFeature.NETWORK: 3, LoginFeature.CLIENT: 3, LoginFeature.DEVICE: 1}
)

# A second factor that is no second one: who reads the mail has the code of the login as well.
_SAME_AS: Final[Mapping[LoginMethod, StepUpFactor]] = MappingProxyType(
    {
        LoginMethod.MAIL_CODE: StepUpFactor.MAIL_CODE,
        LoginMethod.PASSKEY: StepUpFactor.PASSKEY,
    }
)
_OWN: Final = frozenset({StepUpFactor.TOTP, StepUpFactor.PASSKEY})
_OF_THE_MAILBOX: Final = frozenset({StepUpFactor.PASSWORD, StepUpFactor.MAIL_CODE})


def may_step_up(factor: StepUpFactor, method: LoginMethod) -> bool:
    """Tell whether a factor proves more than the method has proved; a password only beside a code by mail."""
    if factor is StepUpFactor.PASSWORD:
        return method is LoginMethod.MAIL_CODE
    return _SAME_AS.get(method) is not factor


def further_factors(owned: Iterable[StepUpFactor], method: LoginMethod) -> tuple[StepUpFactor, ...]:
    """Return the factors that prove more than the method has proved, of those that a voter has and a code by mail.

    Who has an app, or a passkey that is not the method, has to use it or a recovery code: the mailbox that receives
    codes also receives links which replace the password, so neither of the two is a second factor to the other.
    """
    permitted = tuple(factor for factor in (*owned, StepUpFactor.MAIL_CODE) if may_step_up(factor, method))
    if not _OWN.intersection(permitted):
        return permitted
    return tuple(factor for factor in permitted if factor not in _OF_THE_MAILBOX)


def questions_of(request: AssessLoginInput) -> tuple[LookAtDeviceInput, RedeemChallengeInput, ReadLoginsInput]:
    """Return what a login makes us ask of its device and of its bot challenge, and read of the past."""
    device = LookAtDeviceInput(
        voter_id=request.voter_id,
        device_event_id=request.device_event_id,
        nonce=request.nonce,
        network=request.seen[0],
        policy_version=request.device_policy_version,
        attempt_id=request.attempt_id,
    )
    challenge = RedeemChallengeInput(
        attempt_id=request.attempt_id, challenge_token=request.challenge_token, nonce=request.nonce
    )
    return device, challenge, ReadLoginsInput(voter_id=request.voter_id, method=request.method, seen=request.seen)


def signals_of(request: AssessLoginInput, sight: LoginSight) -> LoginSignals:
    """Return everything that a login is judged by; counts of attempts include this one."""
    device, past = sight.device, sight.past
    return LoginSignals(
        my_logins=past.my_logins,
        all_logins=past.all_logins,
        sightings=tuple(_sightings((*past.counts, *device.counts))),
        challenge=sight.challenge.outcome,
        device_known=device.known or device.absent,  # of a device that nobody told of, nobody can say that it is new
        device_refused=device.refused,
        device_absent=device.absent,
        device_score_permille=device.score_permille,
        device_reasons=device.reasons,
        account_attempts_per_hour=past.account_attempts_per_hour + 1,
        network_attempts_per_minute=past.network_attempts_per_minute + 1,
        failures_per_hour=past.failures_per_hour,
        travel_kmh=device.travel_kmh,
        leak=request.leak,
    )


def judged(request: AssessLoginInput, sight: LoginSight, policy: LoginPolicy, at: datetime) -> RecordLoginInput:
    """Return a login with its verdict, as it is to be recorded; `at` is now."""
    signals, device = signals_of(request, sight), sight.device
    at_provider = (StepUpFactor.IDP,) if request.second_factor_at_provider else ()
    return RecordLoginInput(
        request=request,
        signals=signals,
        verdict=judge_login(signals, policy),
        counts=LoginCounts(
            values=(*request.seen, *device.values),
            device=device.device,
            place=device.place,
            at=at,
            device_flags=device.flags,
        ),
        factors=(*at_provider, *sight.past.factors),
    )


def _sightings(counts: Iterable[FeatureCount]) -> Iterator[FeatureSighting]:
    """Join levels; a coarser value that is not known was seen at least as often as the finer one inside it."""
    found = {(count.feature, count.level): count for count in counts}
    for feature, levels in LEVELS.items():
        if (feature, 0) not in found:
            continue
        mine, everyone = [0], [0]
        for level in range(levels):
            count = found.get((feature, level))
            mine.append(max(mine[-1], count.mine if count else 0))
            everyone.append(max(everyone[-1], count.everyone if count else 0))
        yield FeatureSighting(feature=feature, mine=tuple(mine[1:]), everyone=tuple(everyone[1:]))


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A login as it was recorded; `outcome` is None while a further factor is waited for.

    `device` is a keyed hash of 32 bytes, or empty; `provider_session` is sealed under the voter's key.
    """

    attempt_id: str
    voter_id: str
    method: LoginMethod
    jkt: str
    signals: LoginSignals
    verdict: LoginVerdict
    factors: tuple[StepUpFactor, ...]
    outcome: LoginOutcome | None
    at: datetime
    device: bytes = b""
    provider: str = ""
    provider_session: bytes = field(default=b"", repr=False)


def rejudge(attempt: LoginAttempt, policy: LoginPolicy) -> LoginVerdict:
    """Return what a recorded login comes to under another policy, or what it came to under its own."""
    return judge_login(attempt.signals, policy)


@dataclass(frozen=True, slots=True)
class KnownLogins:
    """How often a voter logged in, tried and failed, all voters logged in, and a network was tried from.

    `counts` are of the values that were asked for, in the same order, `owned` the kinds of the voter's credentials that
    count, `on_device` is of the device that was asked for. `last_place` is where the last login was (sealed), and when.
    `event_is_fresh` says that no other request has used the device event. `data_key` is the voter's, wrapped, or None
    where there is none (any more).
    """

    my_logins: int
    all_logins: int
    attempts_per_hour: int
    network_attempts_per_minute: int
    failures_per_hour: int
    counts: tuple[FeatureCount, ...] = ()
    owned: frozenset[CredentialKind] = frozenset()
    on_device: DeviceCorrelation = NEVER_SEEN
    last_place: tuple[bytes, datetime] | None = None
    event_is_fresh: bool = True
    data_key: bytes | None = field(default=None, repr=False)


class Logins(Protocol):
    """The logins of one cell. Calls raise DomainError `directory_unavailable`."""

    async def known(
        self,
        voter_id: str,
        network: HashedValue,
        values: Sequence[FeatureValue] = (),
        device: Sequence[KeyedHash] = (),
        event: EventUse | None = None,
    ) -> KnownLogins:
        """Return everything that is known of a voter, and of a device by every hash of it (as `DeviceSightings`).

        Attempts are counted up to a thousand or so. A device event is used up with it, as `UsedDeviceEvents` does.
        """
        ...

    async def record(self, login: RecordLoginInput) -> LoginAttempt:
        """Keep a judged login, and add it to the history where it was let in; return it as it stands.

        One that was proven before the account's logins began to count anew (a recovery, a change of credentials) has
        `expired`, whatever was decided. Safe to repeat: it counts once.
        """
        ...

    async def end(self, ended: EndLoginInput) -> LoginOutcome:
        """Keep how a challenged login ended, and add it to the history where it was let in; return how it ended.

        As `record`, one that does not count any more has `expired`. Safe to repeat, and the first end stays.
        """
        ...

    async def get(self, attempt_id: str) -> LoginAttempt | None:
        """Return a login, or None."""
        ...

    async def failed(self, voter_id: str, network: KeyedHash) -> None:
        """Count a proof that was not good; `voter_id` is empty where the account is not known."""
        ...
