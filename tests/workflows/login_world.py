"""Everything around `AssessLogin` that a test can hold up, cut off or make say no."""

import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.logins import LoginActivities
from domain.accounts import KeyedHash, LookupKind, PersonalData
from domain.challenges import ChallengeVerdict
from domain.contracts.login import (
    AssessedLogin,
    AssessLoginInput,
    CredentialLeak,
    EndLoginInput,
    FeatureCount,
    FeatureValue,
    LoginDecision,
    LoginFeature,
    LoginOutcome,
    RecordLoginInput,
    StepUpFactor,
    StepUpState,
    TriedFactor,
)
from domain.contracts.registration import HashedValue, hashed_values
from domain.credentials import CredentialKind
from domain.device_events import EventUse
from domain.device_sightings import DeviceCorrelation
from domain.devices import DeviceEvent, DeviceFlag
from domain.errors import DomainError, ErrorCode
from domain.ids import assess_login_workflow_id, new_attempt_id, new_voter_id
from domain.login_features import client_values, network_value
from domain.logins import KnownLogins, LoginAttempt
from domain.sessions import LoginMethod
from tests.workflows.hooked import Hook, hooked_worker
from tests.workflows.registration_ports import Hashes
from tests.workflows.registration_world import replayed
from workflows.assess_login import AssessLoginWorkflow

ADDRESS = "192.0.2.7"


class Kept:
    """Logins in memory; `failures` are raised first."""

    def __init__(self) -> None:
        self.rows: dict[str, LoginAttempt] = {}
        self.added: list[str] = []
        self.failures: list[ErrorCode] = []
        self.place: tuple[bytes, datetime] | None = None
        self.my_logins, self.failed_before = 20, 0
        self.knows_device = True
        self.mine = 20  # logins with each value
        self.owned = {CredentialKind.TOTP}  # by everybody
        self.used: dict[str, str] = {}  # device events, and by which request

    async def known(
        self,
        voter_id: str,
        network: HashedValue,
        values: Sequence[FeatureValue] = (),
        device: Sequence[KeyedHash] = (),
        event: EventUse | None = None,
    ) -> KnownLogins:
        counts = tuple(
            FeatureCount(feature=value.feature, level=value.level, mine=self.mine, everyone=50) for value in values
        )
        return KnownLogins(
            self.my_logins,
            1000,
            1,
            10,
            self.failed_before,
            counts,
            frozenset(self.owned),
            DeviceCorrelation(1, 1, known=self.knows_device),
            self.place,
            event is None or self.used.setdefault(event.event_id, event.request) == event.request,
        )

    async def record(self, login: RecordLoginInput) -> LoginAttempt:
        if self.failures:
            raise DomainError(self.failures.pop(0))
        request, verdict = login.request, login.verdict
        ended = {LoginDecision.ALLOW: LoginOutcome.ALLOWED, LoginDecision.DENY: LoginOutcome.DENIED}
        outcome = ended.get(verdict.decision, None if login.factors else LoginOutcome.DENIED)
        if request.attempt_id not in self.rows:
            self.rows[request.attempt_id] = LoginAttempt(
                request.attempt_id,
                request.voter_id,
                request.method,
                request.jkt,
                login.signals,
                verdict,
                login.factors,
                outcome,
                datetime.now(UTC),
            )
            if outcome is LoginOutcome.ALLOWED:
                self.added.append(request.attempt_id)
        return self.rows[request.attempt_id]

    async def end(self, ended: EndLoginInput) -> LoginOutcome:
        if self.failures:
            raise DomainError(self.failures.pop(0))
        row = self.rows[ended.attempt_id]
        if row.outcome is None:
            fields = {name: getattr(row, name) for name in row.__slots__}
            self.rows[ended.attempt_id] = LoginAttempt(**{**fields, "outcome": ended.outcome})
            if ended.outcome is LoginOutcome.STEPPED_UP:
                self.added.append(ended.attempt_id)
        return self.rows[ended.attempt_id].outcome or ended.outcome


class Seals:
    async def seal(self, voter_id: str, data: PersonalData, data_key: bytes | None = None) -> bytes:
        return repr(dict(data.fields)).encode()

    async def unseal(self, voter_id: str, sealed: bytes, data_key: bytes | None = None) -> PersonalData | None:
        return PersonalData(eval(sealed))


class Vendors:
    """Both vendors: they fail as told, and answer as told."""

    def __init__(self) -> None:
        self.device_failure: ErrorCode | None = None
        self.challenge_failure: ErrorCode | None = None
        self.flags: frozenset[DeviceFlag] = frozenset()
        self.passes = True
        self.latitude = 52.5
        self.keys: set[str] = set()
        self.nonce = "a nonce of this login"

    async def event(self, event_id: str) -> DeviceEvent:
        if self.device_failure:
            raise DomainError(self.device_failure)
        return DeviceEvent(
            event_id,
            datetime.now(UTC),
            device_id="a device",
            confidence=0.99,
            linked_id=self.nonce,
            flags=self.flags,
            ip_address=ADDRESS,
            country="DE",
            latitude=self.latitude,
            longitude=13.4,
            asn="64500",
        )

    async def redeem(self, token: str, action: str, nonce: str, idempotency_key: str) -> ChallengeVerdict:
        self.keys.add(idempotency_key)
        if self.challenge_failure:
            raise DomainError(self.challenge_failure)
        return ChallengeVerdict(passed=self.passes)


class LoggingIn:
    """One login and all around it."""

    def __init__(self, client: Client, *, method: LoginMethod = LoginMethod.PASSWORD) -> None:
        self.client, self.method = client, method
        self.attempt_id, self.voter_id = new_attempt_id("eu"), new_voter_id("eu")
        self.kept, self.vendors, self.hashes = Kept(), Vendors(), Hashes()
        self.queue = f"login-{secrets.token_hex(4)}"
        self.leak = CredentialLeak.NONE
        self.second_factor_at_provider = False
        self.has_vendors = True
        self.one_look = self.one_step = True
        self.steps: list[str] = []
        self.after: Hook | None = None

    @property
    def row(self) -> LoginAttempt:
        return self.kept.rows[self.attempt_id]

    @property
    def handle(self) -> WorkflowHandle[AssessLoginWorkflow, AssessedLogin]:
        return self.client.get_workflow_handle_for(
            AssessLoginWorkflow.run, assess_login_workflow_id("eu", self.attempt_id)
        )

    @property
    def counted(self) -> Counter[str]:
        return Counter(self.steps)

    async def request(self) -> AssessLoginInput:
        values = [(LoginFeature.NETWORK, 0, network_value(ADDRESS))]
        values += [(LoginFeature.CLIENT, level, value) for level, value in enumerate(client_values("A client/1.0"))]
        seen = []
        for feature, level, value in values:
            hashes = await self.hashes.every(LookupKind.FEATURE, value)
            seen.append(FeatureValue(feature=feature, level=level, hashes=hashed_values(hashes)))
        return AssessLoginInput(
            attempt_id=self.attempt_id,
            voter_id=self.voter_id,
            cell="eu",
            method=self.method,
            jkt="k" * 43,
            challenge_token="a token",
            nonce=self.vendors.nonce,
            device_event_id="an event",
            seen=tuple(seen),
            leak=self.leak,
            policy_version=1,
            device_policy_version=1,
            second_factor_at_provider=self.second_factor_at_provider,
            one_look=self.one_look,
            one_step=self.one_step,
        )

    async def start(self) -> WorkflowHandle[AssessLoginWorkflow, AssessedLogin]:
        return await self.client.start_workflow(
            AssessLoginWorkflow.run,
            await self.request(),
            id=self.handle.id,
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    async def step_up(self, *, passed: bool, factor: StepUpFactor = StepUpFactor.TOTP) -> StepUpState:
        return await self.handle.execute_update(AssessLoginWorkflow.step_up, TriedFactor(factor=factor, passed=passed))

    @property
    def activities(self) -> LoginActivities:
        vendors: Any = self.vendors if self.has_vendors else None
        parts: tuple[Any, ...] = (self.kept, Seals(), self.hashes)
        return LoginActivities(*parts, devices=vendors, challenges=vendors)

    def worker(self, **options: Any) -> Worker:
        return hooked_worker(self, [AssessLoginWorkflow], self.activities.all(), **options)

    async def replayed(self, name: str = "") -> None:
        """Replay what happened; keep it where that was asked for and there is nothing of this name."""
        await replayed(self.handle, name and f"assess-login-one-step-{name}")
