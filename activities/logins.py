"""What a login is judged by, read and asked for, and the record of what it came to."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from temporalio import activity

from activities.failures import to_application_error
from domain.accounts import KeyedHash, LookupHashes, LookupKind, PersonalData, VoterSeals
from domain.challenges import BotChallenge, ChallengeAction
from domain.contracts.login import (
    AssessLoginInput,
    ChallengeOutcome,
    EndLoginInput,
    FeatureValue,
    LoginFeature,
    LoginOutcome,
    LoginSight,
    LookAtDeviceInput,
    PastLogins,
    ReadLoginsInput,
    RecordLoginInput,
    RedeemChallengeInput,
    RedeemedChallenge,
    SeenDevice,
    StepUpFactor,
    StepUpState,
)
from domain.contracts.registration import hashed_values
from domain.credentials import CredentialKind
from domain.device_events import UsedDeviceEvents
from domain.device_policy import (
    DEVICE_POLICIES,
    DeviceCircumstances,
    DeviceDecision,
    DeviceUse,
    DeviceVerdict,
    judge_device,
)
from domain.devices import DeviceEvent, DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from domain.login_features import event_values, network_value
from domain.login_risk import travel_kmh
from domain.logins import VENDOR_WITHIN_S, KnownLogins, LoginAttempt, Logins, further_factors, questions_of
from domain.risk import UNKNOWN_NETWORK

LATITUDE_FIELD, LONGITUDE_FIELD = "latitude", "longitude"
_AWAY: Final = frozenset(
    {
        ErrorCode.DEVICES_UNAVAILABLE,
        ErrorCode.DEVICES_MISCONFIGURED,
        ErrorCode.CHALLENGES_UNAVAILABLE,
        ErrorCode.CHALLENGES_MISCONFIGURED,
        ErrorCode.DEADLINE_EXCEEDED,
    }
)
_FACTORS: Final = {
    CredentialKind.TOTP: StepUpFactor.TOTP,
    CredentialKind.PASSKEY: StepUpFactor.PASSKEY,
    CredentialKind.RECOVERY_CODE: StepUpFactor.RECOVERY_CODE,
    CredentialKind.PASSWORD: StepUpFactor.PASSWORD,
}

LoginListener = Callable[[LoginAttempt], None]


@dataclass(frozen=True, slots=True)
class _Met:
    """What a vendor says of a device, and the keyed hashes of it; without an event `unseen` is what that comes to."""

    unseen: SeenDevice
    event: DeviceEvent | None = None
    device: tuple[KeyedHash, ...] = ()
    values: tuple[FeatureValue, ...] = ()


class LoginActivities:
    """Judges the logins of one cell; holds the ports so that a test can pass its own.

    A vendor that is None, does not answer within 1.5 s or answers nonsense is absent, which is a result.
    """

    def __init__(
        self,
        logins: Logins,
        seals: VoterSeals,
        hashes: LookupHashes,
        *,
        events: UsedDeviceEvents,
        devices: DeviceIntelligence | None,
        challenges: BotChallenge | None,
        on_recorded: LoginListener | None = None,
    ) -> None:
        """`on_recorded` hears of every login that this process recorded, right after its commit."""
        self._logins = logins
        self._seals = seals
        self._hashes = hashes
        self._events = events
        self._devices = devices
        self._challenges = challenges
        self._on_recorded = on_recorded

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.look_at_login,
            self.record_login,
            self.end_login,
            # for executions that began before there was `look_at_login`
            self.look_at_device,
            self.redeem_challenge,
            self.read_logins,
        ]

    @activity.defn(name="look_at_login")
    async def look_at_login(self, request: AssessLoginInput) -> LoginSight:
        """Ask the vendors and read the past, all at once; it takes as long as the slowest of them.

        Safe to repeat, as each of its parts is.

        Raises:
            ApplicationError: `directory_unavailable`, `key_unavailable` (retried).
        """
        device, challenge, past = questions_of(request)
        met, redeemed = await asyncio.gather(self._meet(device), self.redeem_challenge(challenge))
        asked = len(request.seen)
        try:
            known = await self._known(past, met)
            counts = known.counts[:asked], known.counts[asked:]
            seen = await self._seen(device, met, replace(known, counts=counts[1]))
        except DomainError as error:
            raise to_application_error(error) from error
        return LoginSight(device=seen, challenge=redeemed, past=_past(past, replace(known, counts=counts[0])))

    @activity.defn(name="look_at_device")
    async def look_at_device(self, request: LookAtDeviceInput) -> SeenDevice:
        """Read a login's device event, judge it, and say how well it is known. Safe to repeat.

        An event that is none, or of another request, refuses the device: who can show none has something to hide. One
        that came with another login has been used up; the same attempt may ask for its own again.

        Raises:
            ApplicationError: `directory_unavailable`, `key_unavailable` (retried).
        """
        met = await self._meet(request)
        if met.event is None:
            return met.unseen
        try:
            known = await self._logins.known(request.voter_id, request.network.hashes[-1], met.values, met.device)
            return await self._seen(request, met, known)
        except DomainError as error:
            raise to_application_error(error) from error

    async def _meet(self, request: LookAtDeviceInput) -> _Met:
        """Return what the vendor says of a device, with its keyed hashes."""
        if self._devices is None:
            return _Met(SeenDevice(absent=True))
        try:
            async with asyncio.timeout(VENDOR_WITHIN_S):
                event = await self._devices.event(request.device_event_id)
        except TimeoutError:
            return _Met(SeenDevice(absent=True))
        except DomainError as error:
            if error.code in _AWAY:
                return _Met(SeenDevice(absent=True))
            if error.code is ErrorCode.DEVICE_EVENT_INVALID:
                return _Met(SeenDevice(refused=True, reasons=(error.code.value,)))
            raise to_application_error(error) from error
        try:
            device = await self._hashes.every(LookupKind.DEVICE, event.device_id) if event.device_id else ()
            values = []
            for feature, level, value in event_values(event):
                hashes = await self._hashes.every(LookupKind.FEATURE, value)
                values.append(FeatureValue(feature=feature, level=level, hashes=hashed_values(hashes)))
        except DomainError as error:
            raise to_application_error(error) from error
        return _Met(SeenDevice(), event, tuple(device), tuple(values))

    async def _seen(self, request: LookAtDeviceInput, met: _Met, known: KnownLogins) -> SeenDevice:
        """Judge a device by what is known of it; `known.counts` are those of its values."""
        event, on_device, now = met.event, known.on_device, datetime.now(UTC)
        if event is None:
            return met.unseen
        (place, speed), is_fresh = await asyncio.gather(
            self._travel(request.voter_id, event, known.last_place, now), self._is_fresh(event, request)
        )
        new = 0 if on_device.known or not met.device else 1
        verdict = judge_device(
            event,
            DeviceCircumstances(
                now=now,
                nonce=request.nonce,
                used_before=not is_fresh,
                client_address=await self._address_like(event, request.network),
                accounts_on_device=on_device.accounts_on_device + new,
                devices_on_account=on_device.devices_of_account + new,
            ),
            DeviceUse.LOGIN,
            DEVICE_POLICIES[request.policy_version],
        )
        return SeenDevice(
            refused=_is_refused(verdict),
            known=on_device.known,
            score_permille=verdict.score_permille,
            reasons=verdict.reasons,
            device=hashed_values(met.device),
            values=met.values,
            counts=known.counts,
            place=place,
            travel_kmh=speed,
            flags=tuple(sorted(event.flags)),
        )

    async def _is_fresh(self, event: DeviceEvent, request: LookAtDeviceInput) -> bool:
        if not request.attempt_id:  # of a login that a release of before began
            return True
        return await self._events.use(event.event_id, request.attempt_id)

    async def _address_like(self, event: DeviceEvent, network: FeatureValue) -> str:
        """Return an address that is in the event's network if the request was: only its hash comes here."""
        own = await self._hashes.every(LookupKind.FEATURE, network_value(event.ip_address))
        same = {one.digest for one in own} & {one.digest for one in network.hashes}
        return event.ip_address if same else UNKNOWN_NETWORK

    async def _travel(
        self, voter_id: str, event: DeviceEvent, last: tuple[bytes, datetime] | None, now: datetime
    ) -> tuple[bytes, int]:
        """Return where the event was, sealed, and how fast (km/h) somebody would have come there; -1 is not known."""
        if event.latitude is None or event.longitude is None:
            return b"", -1
        here = {LATITUDE_FIELD: f"{event.latitude:.2f}", LONGITUDE_FIELD: f"{event.longitude:.2f}"}
        sealed = await self._seals.seal(voter_id, PersonalData(here))
        opened = None if last is None else await self._seals.unseal(voter_id, last[0])
        if last is None or opened is None:
            return sealed, -1
        before = float(opened.fields[LATITUDE_FIELD]), float(opened.fields[LONGITUDE_FIELD])
        hours = max(0.0, (now - last[1]).total_seconds()) / 3600
        return sealed, travel_kmh(before, (event.latitude, event.longitude), hours)

    @activity.defn(name="redeem_challenge")
    async def redeem_challenge(self, request: RedeemChallengeInput) -> RedeemedChallenge:
        """Redeem the token of a login's bot challenge. Safe to repeat: the vendor knows the attempt's key again."""
        if self._challenges is None:
            return RedeemedChallenge(outcome=ChallengeOutcome.ABSENT)
        key = str(uuid5(NAMESPACE_URL, f"login/{request.attempt_id}"))
        try:
            async with asyncio.timeout(VENDOR_WITHIN_S):
                verdict = await self._challenges.redeem(
                    request.challenge_token, ChallengeAction.LOGIN, request.nonce, key
                )
        except TimeoutError:
            return RedeemedChallenge(outcome=ChallengeOutcome.ABSENT)
        except DomainError as error:
            if error.code in _AWAY:
                return RedeemedChallenge(outcome=ChallengeOutcome.ABSENT)
            raise to_application_error(error) from error
        return RedeemedChallenge(outcome=ChallengeOutcome.PASSED if verdict.passed else ChallengeOutcome.FAILED)

    @activity.defn(name="read_logins")
    async def read_logins(self, request: ReadLoginsInput) -> PastLogins:
        """Return what is known of a voter's logins, and which further factors the voter has. Safe to repeat.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            return _past(request, await self._known(request, _Met(SeenDevice())))
        except DomainError as error:
            raise to_application_error(error) from error

    async def _known(self, request: ReadLoginsInput, met: _Met) -> KnownLogins:
        """Read in one question what is known; counts are of what the request shows, then of the device's values."""
        network = next(value for value in request.seen if value.feature is LoginFeature.NETWORK).hashes[-1]
        return await self._logins.known(request.voter_id, network, (*request.seen, *met.values), met.device)

    @activity.defn(name="record_login")
    async def record_login(self, login: RecordLoginInput) -> StepUpState:
        """Keep a judged login, once, and say how it stands.

        Safe to repeat: the same attempt is one row, and counts once.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            attempt = await self._logins.record(login)
        except DomainError as error:
            raise to_application_error(error) from error
        if self._on_recorded is not None:
            self._on_recorded(attempt)
        return StepUpState(outcome=attempt.outcome)

    @activity.defn(name="end_login")
    async def end_login(self, ended: EndLoginInput) -> StepUpState:
        """Keep how a challenged login ended. Safe to repeat: the first end stays, and is returned.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        try:
            outcome: LoginOutcome = await self._logins.end(ended)
        except DomainError as error:
            raise to_application_error(error) from error
        return StepUpState(outcome=outcome)


def _is_refused(verdict: DeviceVerdict) -> bool:
    return verdict.decision in {DeviceDecision.REFUSED, DeviceDecision.INVALID}


def _past(request: ReadLoginsInput, known: KnownLogins) -> PastLogins:
    return PastLogins(
        my_logins=known.my_logins,
        all_logins=known.all_logins,
        counts=known.counts,
        account_attempts_per_hour=known.attempts_per_hour,
        network_attempts_per_minute=known.network_attempts_per_minute,
        failures_per_hour=known.failures_per_hour,
        factors=further_factors((_FACTORS[kind] for kind in _FACTORS if kind in known.owned), request.method),
    )
