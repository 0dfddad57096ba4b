"""Logs people in: the proof is checked, the login judged durably, and a session opened where it is let in."""

import asyncio
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from api.auth.cells import AuthCells
from api.auth.login_humans import HumanChecks
from api.auth.login_proofs import LoginProofs, Offer, Proof
from api.auth.login_room import LoginRoom
from api.auth.login_serving import RecordedLogins, decided
from api.auth.sessions import SessionDesk, Tokens
from domain.accounts import Account, LookupKind, PersonalData
from domain.contracts.login import (
    AssessLoginInput,
    FeatureValue,
    LoginFeature,
    LoginOutcome,
    StepUpFactor,
)
from domain.contracts.registration import hashed_values
from domain.device_policy import CURRENT_DEVICE_POLICY
from domain.errors import DomainError, ErrorCode
from domain.ids import new_attempt_id, session_id_of
from domain.login_features import client_values, network_value
from domain.login_risk import CURRENT_LOGIN_POLICY
from domain.logins import LoginAttempt
from domain.risk import network_of
from domain.sessions import NewSession
from domain.tokens import RiskBand
from integrations.identity_cell import IdentityCells
from integrations.telemetry.metrics import LoginMetrics

_PROVIDER_SESSION: Final = "provider_session"  # the field that is sealed
_REFUSED_EVERY_S: Final = 0.25  # whoever is refused hears of it at a multiple of this: how long it took says nothing
_BANDS: Final = {LoginOutcome.ALLOWED: RiskBand.LOW, LoginOutcome.STEPPED_UP: RiskBand.MEDIUM}


@dataclass(frozen=True, slots=True)
class Visit:
    """How somebody comes: the client's address and name, a bot challenge's token, and a device event."""

    client_address: str = field(repr=False)
    user_agent: str = field(repr=False)
    challenge_token: str = field(repr=False)
    device_event_id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What a login came to: tokens, or the further factors that it waits for."""

    attempt_id: str
    tokens: Tokens | None = None
    factors: tuple[StepUpFactor, ...] = ()


class LoginDesk:
    """Decides on logins. A secret that proves somebody never gets further than this process."""

    def __init__(
        self,
        cells: AuthCells,
        identity: IdentityCells,
        *,
        proofs: LoginProofs,
        sessions: SessionDesk,
        recorded: RecordedLogins,
        humans: HumanChecks,
        room: LoginRoom,
        metrics: LoginMetrics,
        first_cell: str,
    ) -> None:
        """Failures without an account are counted in the cell that was named, or else in `first_cell`."""
        self._cells = cells
        self._identity = identity
        self._proofs = proofs
        self._sessions = sessions
        self._recorded = recorded
        self._humans = humans
        self._room = room
        self._metrics = metrics
        self._first_cell = first_cell

    async def log_in(self, offer: Offer, visit: Visit) -> Decided:
        """Return what a login comes to.

        Raises:
            DomainError: `login_failed`, the same and as late for every reason, or in its place that a cell is away;
                `risk_denied` also where a further factor is needed that the voter has not; `overloaded` before
                anything was looked at; `workflows_unavailable`, and what says that something is away.
        """
        began, began_at = asyncio.get_running_loop().time(), datetime.now(UTC)
        refusal: BaseException
        try:
            async with self._room.place():
                proof = await self._proofs.check(offer)
                if proof.good and proof.account is not None:
                    return await self._judged(offer, visit, proof, proof.account, began_at)
                refusal = await self._refusal(offer, visit, proof)
        except DomainError as error:
            if error.code is not ErrorCode.RISK_DENIED:
                raise
            refusal = error  # of a proof that was good: no sooner than one that was not
        waited = asyncio.get_running_loop().time() - began
        await asyncio.sleep(_REFUSED_EVERY_S - waited % _REFUSED_EVERY_S)
        raise refusal

    async def _judged(self, offer: Offer, visit: Visit, proof: Proof, account: Account, began_at: datetime) -> Decided:
        cell = self._identity.of(account.cell)
        login = await self._login(offer, visit, proof, account, began_at)
        with self._metrics.decision_seconds.time(), self._recorded.expected(login.attempt_id) as heard:
            await cell.login_processes.start(login)
            attempt = await decided(cell.logins, login.attempt_id, heard)
        if attempt.outcome is None:
            return Decided(attempt.attempt_id, factors=attempt.factors)
        if attempt.outcome is LoginOutcome.EXPIRED:  # by what came between the proof and the record
            raise DomainError(ErrorCode.LOGIN_FAILED)
        if attempt.outcome is not LoginOutcome.ALLOWED:
            raise DomainError(ErrorCode.RISK_DENIED)
        return Decided(attempt.attempt_id, await self.open(attempt, account, visit.client_address))

    async def open(self, attempt: LoginAttempt, account: Account, client_address: str) -> Tokens:
        """Open the one session of a login that was let in. Raises DomainError as `SessionDesk.open`."""
        sid = ""
        if attempt.provider_session:
            records = self._cells.of(account.cell).records
            opened = await records.unseal(account.voter_id, attempt.provider_session)
            sid = "" if opened is None else opened.fields[_PROVIDER_SESSION]
        outcome = attempt.outcome or LoginOutcome.STEPPED_UP
        return await self._sessions.open(
            NewSession(
                session_id=session_id_of(attempt.attempt_id),
                voter_id=attempt.voter_id,
                jkt=attempt.jkt,
                method=attempt.method,
                assurance=account.assurance,
                risk=_BANDS[outcome],
                device=urlsafe_b64encode(attempt.device).decode("ascii").rstrip("="),
                network=network_of(client_address),
                provider=attempt.provider,
                provider_sid=sid,
                logged_in_at=attempt.at,
            )
        )

    async def _login(
        self, offer: Offer, visit: Visit, proof: Proof, account: Account, began_at: datetime
    ) -> AssessLoginInput:
        identity, sealed = proof.identity, b""
        if identity is not None and identity.sid:
            records = self._cells.of(account.cell).records
            sealed = await records.seal(account.voter_id, PersonalData({_PROVIDER_SESSION: identity.sid}))
        return AssessLoginInput(
            attempt_id=new_attempt_id(account.cell),
            voter_id=account.voter_id,
            cell=account.cell,
            method=offer.method,
            jkt=offer.jkt,
            challenge_token=visit.challenge_token,
            nonce=offer.nonce,
            device_event_id=visit.device_event_id,
            seen=await self._seen(visit),
            leak=proof.leak,
            policy_version=CURRENT_LOGIN_POLICY.version,
            device_policy_version=CURRENT_DEVICE_POLICY.version,
            provider="" if identity is None else identity.provider,
            provider_session=sealed,
            second_factor_at_provider=identity is not None and identity.with_second_factor,
            one_look=True,
            proven_at=began_at,
            one_step=True,
        )

    async def _seen(self, visit: Visit) -> tuple[FeatureValue, ...]:
        """Return the features of the request, the network first; addresses and clients leave here as hashes only."""
        values = [(LoginFeature.NETWORK, 0, network_value(visit.client_address))]
        values += [(LoginFeature.CLIENT, level, value) for level, value in enumerate(client_values(visit.user_agent))]
        return tuple(
            [
                FeatureValue(
                    feature=feature,
                    level=level,
                    hashes=hashed_values(await self._cells.hashes.every(LookupKind.FEATURE, value)),
                )
                for feature, level, value in values
            ]
        )

    async def _refusal(self, offer: Offer, visit: Visit, proof: Proof) -> BaseException:
        """Count a failure and return how it is told: without a human's token nobody learns whether a proof was good.

        While a cell is away, whoever is refused hears that, known elsewhere or not: else it would tell who is known.
        """
        _, passed = await asyncio.gather(
            self._count_failure(offer, visit, proof), self._humans.is_human(visit.challenge_token, offer.nonce)
        )
        if not passed:
            return DomainError(ErrorCode.RISK_DENIED)
        return proof.failure or DomainError(ErrorCode.LOGIN_FAILED)

    async def _count_failure(self, offer: Offer, visit: Visit, proof: Proof) -> None:
        account = proof.account
        try:
            cell = self._identity.of(offer.cell or self._first_cell if account is None else account.cell)
            network = await self._cells.hashes.newest(LookupKind.FEATURE, network_value(visit.client_address))
            await cell.logins.failed("" if account is None else account.voter_id, network)
        except DomainError:
            if proof.failure is None:  # else the first cell may be the one that is away, which is told
                raise
