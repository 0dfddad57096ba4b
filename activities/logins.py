"""What a login is judged by, read and asked for, and the record of what it came to."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from temporalio import activity

from activities.failures import to_application_error
from activities.login_devices import NOTHING_MET, LoginDevices, MetDevice
from domain.accounts import LookupHashes, VoterSeals
from domain.challenges import BotChallenge, ChallengeAction
from domain.contracts.login import (
    AssessLoginInput,
    ChallengeOutcome,
    EndLoginInput,
    JudgedLogin,
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
from domain.credentials import CredentialKind
from domain.device_events import EventUse
from domain.devices import DeviceIntelligence
from domain.errors import DomainError, ErrorCode
from domain.login_risk import LOGIN_POLICIES
from domain.logins import (
    VENDOR_WITHIN_S,
    KnownLogins,
    LoginAttempt,
    Logins,
    further_factors,
    judged,
    questions_of,
)

_AWAY: Final = frozenset(
    {ErrorCode.CHALLENGES_UNAVAILABLE, ErrorCode.CHALLENGES_MISCONFIGURED, ErrorCode.DEADLINE_EXCEEDED}
)
_FACTORS: Final = {
    CredentialKind.TOTP: StepUpFactor.TOTP,
    CredentialKind.PASSKEY: StepUpFactor.PASSKEY,
    CredentialKind.RECOVERY_CODE: StepUpFactor.RECOVERY_CODE,
    CredentialKind.PASSWORD: StepUpFactor.PASSWORD,
}

LoginListener = Callable[[LoginAttempt], None]


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
        devices: DeviceIntelligence | None,
        challenges: BotChallenge | None,
        on_recorded: LoginListener | None = None,
    ) -> None:
        """`on_recorded` hears of every login that this process recorded, right after its commit."""
        self._logins = logins
        self._devices = LoginDevices(devices, seals, hashes)
        self._challenges = challenges
        self._on_recorded = on_recorded

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.assess_login,
            self.end_login,
            # for executions that began before there was `assess_login`
            self.look_at_login,
            self.record_login,
            # and those that began before there was `look_at_login`
            self.look_at_device,
            self.redeem_challenge,
            self.read_logins,
        ]

    @activity.defn(name="assess_login")
    async def assess_login(self, request: AssessLoginInput) -> JudgedLogin:
        """Look at a login, judge it, and keep it, once; return it as it is kept.

        It looks, asking the vendors and reading the past all at once, for as long as the slowest of them takes. Safe to
        repeat: the same attempt is one row and counts once, and stays what it was judged to be at first, by what was
        seen then.

        Raises:
            ApplicationError: `directory_unavailable`, `key_unavailable` (retried).
        """
        sight = await self._look(request)
        login = judged(request, sight, LOGIN_POLICIES[request.policy_version], datetime.now(UTC))
        kept = await self._record(login)
        return JudgedLogin(
            signals=kept.signals,
            verdict=kept.verdict,
            outcome=kept.outcome,
            factors=kept.factors,
            counts=login.counts if kept.outcome is None else None,
        )

    @activity.defn(name="look_at_login")
    async def look_at_login(self, request: AssessLoginInput) -> LoginSight:
        """Ask the vendors and read the past, all at once; it takes as long as the slowest of them.

        Safe to repeat, as each of its parts is.

        Raises:
            ApplicationError: `directory_unavailable`, `key_unavailable` (retried).
        """
        return await self._look(request)

    async def _look(self, request: AssessLoginInput) -> LoginSight:
        device, challenge, past = questions_of(request)
        met, redeemed = await asyncio.gather(self._devices.meet(device), self.redeem_challenge(challenge))
        asked = len(request.seen)
        try:
            known = await self._known(past, met, met.used_for(request.attempt_id))
            counts = known.counts[:asked], known.counts[asked:]
            seen = await self._devices.seen(device, met, replace(known, counts=counts[1]))
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
        met = await self._devices.meet(request)
        if met.event is None:
            return met.unseen
        try:
            use = met.used_for(request.attempt_id)
            known = await self._logins.known(request.voter_id, request.network.hashes[-1], met.values, met.device, use)
            return await self._devices.seen(request, met, known)
        except DomainError as error:
            raise to_application_error(error) from error

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
            return _past(request, await self._known(request, NOTHING_MET))
        except DomainError as error:
            raise to_application_error(error) from error

    async def _known(self, request: ReadLoginsInput, met: MetDevice, use: EventUse | None = None) -> KnownLogins:
        """Read in one question what is known; counts are of what the request shows, then of the device's values."""
        network = next(value for value in request.seen if value.feature is LoginFeature.NETWORK).hashes[-1]
        return await self._logins.known(request.voter_id, network, (*request.seen, *met.values), met.device, use)

    @activity.defn(name="record_login")
    async def record_login(self, login: RecordLoginInput) -> StepUpState:
        """Keep a judged login, once, and say how it stands.

        Safe to repeat: the same attempt is one row, and counts once.

        Raises:
            ApplicationError: `directory_unavailable` (retried).
        """
        return StepUpState(outcome=(await self._record(login)).outcome)

    async def _record(self, login: RecordLoginInput) -> LoginAttempt:
        try:
            attempt = await self._logins.record(login)
        except DomainError as error:
            raise to_application_error(error) from error
        if self._on_recorded is not None:
            self._on_recorded(attempt)
        return attempt

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
