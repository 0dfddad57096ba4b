"""The desk: everybody is answered once, whatever fails behind it and however they come."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from structlog.testing import capture_logs

from api.eligibility.desk import GROUP_MAX, GROUPS_IN_FLIGHT, Application, Desk
from api.eligibility.voting_tokens import VotingToken, VotingTokens
from api.http.used_proofs import CellProofs
from domain.eligibility import Asked, Candidate, Electorate, VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import new_voter_id
from domain.ports import AdmissionAttempt, RiskDecision, RiskVerdict
from domain.tokens import VOTER_ACCESS, Assurance, Confirmation, VoterClaims
from integrations.keys import base64url

SURVEY, GONE = "s_aaaaaaaaaaaaaaaa", "s_bbbbbbbbbbbbbbbb"
ELECTORATE = Electorate(SURVEY, frozenset(), 0, False, None, None, b"k" * 32)  # noqa: FBT003
Result = VotingToken | DomainError


class Key:
    """A signer with a fixed key."""

    key_id = "voting-token/2026-11-23/1"

    def sign(self, message: bytes) -> bytes:
        signed: bytes = crypto_sign(message, crypto_sign_seed_keypair(bytes(32))[1])
        return signed[:64]


@dataclass
class World:
    """Fakes of everything behind a desk."""

    groups: list[int] = field(default_factory=list)
    failure: Exception | None = None
    verdict: RiskVerdict = RiskVerdict(RiskDecision.ALLOW, 0, 1)  # noqa: RUF009
    risk_takes_s: float = 0
    risk_failure: DomainError | None = None
    gate: asyncio.Event | None = None
    running: int = 0
    most_running: int = 0
    absent: int = 0
    steps: list[str] = field(default_factory=list)
    flags: int = 0
    asked: list[Asked] = field(default_factory=list)
    attempts: list[AdmissionAttempt] = field(default_factory=list)
    device_flags: frozenset[str] = frozenset()
    device_seen_at: datetime | None = None
    seen: set[bytes] = field(default_factory=set)

    async def use(self, proofs: Sequence[bytes]) -> list[bool]:
        new = [proof not in self.seen for proof in proofs]
        self.seen |= set(proofs)
        return new

    async def candidates(self, asked: Sequence[Asked]) -> list[Candidate | None]:
        self.asked += asked
        self.groups.append(len(asked))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await (asyncio.sleep(0) if self.gate is None else self.gate.wait())
        self.running -= 1
        if self.failure is not None:
            raise self.failure
        return [
            Candidate(
                one.voter_id,
                f"p_{one.voter_id}",
                VoterStatus.ACTIVE,
                Assurance.HIGH,
                "DE",
                18,
                on_roll=False,
                device_flags=self.device_flags,
                device_seen_at=self.device_seen_at,
            )
            for one in asked
        ]

    async def get(self, survey_id: str) -> Electorate | None:
        if survey_id == GONE:
            raise DomainError(ErrorCode.KEY_DESTROYED)
        return replace(ELECTORATE, survey_id=survey_id)

    async def assess(self, attempts: Sequence[AdmissionAttempt]) -> list[RiskVerdict]:
        self.attempts += attempts
        await asyncio.sleep(self.risk_takes_s)
        if self.risk_failure is not None:
            raise self.risk_failure
        return [self.verdict for _ in attempts]

    def looked_up(self, seconds: float) -> None:
        assert seconds >= 0

    def judged(self, verdict: RiskVerdict, seconds: float) -> None:
        assert (verdict, seconds >= 0) == (self.verdict, True)

    def risk_absent(self, applications: int) -> None:
        self.absent += applications

    def step(self, name: str, started_at: float, ended_at: float) -> None:
        assert started_at <= ended_at
        self.steps.append(name)

    def flag(self) -> None:
        self.flags += 1

    @property
    def trace_id(self) -> str:
        return "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def world() -> World:
    return World()


def desk_over(world: World, **limits: float) -> Desk:
    """Return a desk with these limits over the fakes."""
    return Desk(
        "eu",
        directory=world,
        electorates=world,
        risk=world,
        used=CellProofs("eu", world),
        tokens=VotingTokens(Key(), Key(), b"p" * 32),
        pseudonym_key=b"p" * 32,
        telemetry=world,
        **limits,  # type: ignore[arg-type]
    )


@pytest.fixture
def desk(world: World) -> Desk:
    return desk_over(world)


def application(
    world: World, survey_id: str = SURVEY, device: str = "", cnf: Confirmation | None = None
) -> Application:
    now = int(time.time())
    kind = VOTER_ACCESS
    claims = VoterClaims(
        iss=kind.issuer,
        aud=kind.audience,
        scope=kind.scope,
        iat=now,
        exp=now + 900,
        sub=new_voter_id("eu"),
        jti="j",
        sid="s",
        cell="eu",
        region="DE",
        device=device,
        cnf=cnf,
    )
    return Application(survey_id, claims, "127.0.0.0/24", world)


async def ask(desk: Desk, applications: Sequence[Application]) -> list[Result]:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in applications]
    for one, future in zip(applications, futures, strict=True):
        desk.submit(one, future.set_result)  # a second answer would raise
    async with asyncio.timeout(10):
        return await asyncio.gather(*futures)


async def test_everybody_who_comes_at_once_is_looked_up_together(desk: Desk, world: World) -> None:
    results = await ask(desk, [application(world) for _ in range(300)])
    assert all(isinstance(result, VotingToken) for result in results)
    assert sum(world.groups) == 300
    assert max(world.groups) == GROUP_MAX
    assert world.most_running <= GROUPS_IN_FLIGHT
    assert set(world.steps) == {"auth.check_eligibility", "fraud.check_vote"}


async def test_whoever_comes_between_the_end_of_all_groups_and_their_bookkeeping_is_served(
    desk: Desk, world: World
) -> None:
    loop = asyncio.get_running_loop()
    world.gate = asyncio.Event()
    late: asyncio.Future[Result] = loop.create_future()

    def come(_: Result) -> None:
        # the next turn of the loop: after the last step of the groups, before their tasks are known to be done
        loop.call_soon(desk.submit, application(world), late.set_result)

    async with asyncio.timeout(10):
        for number, answer in enumerate((come, lambda _: None), 1):
            desk.submit(application(world), answer)
            while world.running < number:
                await asyncio.sleep(0)
        assert world.running == GROUPS_IN_FLIGHT
        world.gate.set()
        assert isinstance(await late, VotingToken)


async def test_a_proof_that_another_process_has_seen_is_its_own_refusal_alone(desk: Desk, world: World) -> None:
    world.seen = {b"b"}
    asked = [replace(application(world), proof=proof) for proof in (b"a", b"b", b"", b"c", b"")]
    results = await ask(desk, asked)
    assert [isinstance(result, VotingToken) for result in results] == [True, False, True, True, True]
    assert isinstance(results[1], DomainError)
    assert results[1].code is ErrorCode.PROOF_INVALID
    assert world.seen == {b"a", b"b", b"c"}


async def test_directory_that_is_away_is_everybodys_answer(desk: Desk, world: World) -> None:
    world.failure = DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
    results = await ask(desk, [application(world) for _ in range(100)])
    assert {result.code for result in results if isinstance(result, DomainError)} == {ErrorCode.DIRECTORY_UNAVAILABLE}
    world.failure = None
    assert isinstance((await ask(desk, [application(world)]))[0], VotingToken)


async def test_fault_answers_its_group_and_the_desk_goes_on(desk: Desk, world: World) -> None:
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(str(context["message"])))
    try:
        world.failure = ZeroDivisionError()
        results = await ask(desk, [application(world) for _ in range(3 * GROUP_MAX)])
        assert {result.code for result in results if isinstance(result, DomainError)} == {ErrorCode.INTERNAL}
        world.failure = None
        assert isinstance((await ask(desk, [application(world)]))[0], VotingToken)
    finally:
        asyncio.get_running_loop().set_exception_handler(None)


async def test_survey_whose_key_is_gone_concerns_only_its_own_voters(desk: Desk, world: World) -> None:
    results = await ask(desk, [application(world, survey) for survey in (SURVEY, GONE, SURVEY)])
    assert [isinstance(result, VotingToken) for result in results] == [True, False, True]
    assert isinstance(results[1], DomainError)
    assert results[1].code is ErrorCode.KEY_DESTROYED


@pytest.mark.parametrize(
    ("decision", "reasons", "code"),
    [
        (RiskDecision.CHALLENGE, ("voter_velocity",), ErrorCode.STEP_UP_REQUIRED),
        (RiskDecision.DENY, ("voter_velocity",), ErrorCode.RISK_DENIED),
        (RiskDecision.DENY, ("device_refused", "rooted"), ErrorCode.DEVICE_REFUSED),
    ],
)
async def test_risk_decides(
    desk: Desk, world: World, decision: RiskDecision, reasons: tuple[str, ...], code: ErrorCode
) -> None:
    world.verdict = RiskVerdict(decision, 950, 1, reasons)
    denied = application(world)
    with capture_logs() as lines:
        (result,) = await ask(desk, [denied])
    assert isinstance(result, DomainError)
    assert result.code is code
    assert world.flags == 1
    logged = [(line["event"], line["trace_id"]) for line in lines]
    assert logged == [("admission_denied_for_risk", world.trace_id)] * (decision is RiskDecision.DENY)
    assert denied.claims.sub not in str(lines)  # a pseudonym, as everywhere outside of identity


async def test_risk_hears_what_the_directory_knows_of_the_session_device(desk: Desk, world: World) -> None:
    world.device_flags = frozenset({"vpn"})
    devices = [base64url.encode_text(b"d" * 32), "", "no keyed hash of ours!"]
    await ask(desk, [application(world, device=device) for device in devices])
    assert [one.device for one in world.asked] == [b"d" * 32, None, None]
    assert {attempt.device_flags for attempt in world.attempts} == {frozenset({"vpn"})}


async def test_risk_hears_for_how_long_the_device_that_a_login_has_read_was_not_seen(desk: Desk, world: World) -> None:
    device, bound = base64url.encode_text(b"d" * 32), Confirmation("thumbprint")
    world.device_seen_at = datetime.now(UTC) - timedelta(hours=30)
    await ask(desk, [application(world, device=device, cnf=bound)])
    world.device_seen_at = None
    tokens = ((device, bound), (device, None), ("", bound))  # of the others no login has read a device
    await ask(desk, [application(world, device=device, cnf=cnf) for device, cnf in tokens])
    seen, *others = [attempt.device_unseen_for for attempt in world.attempts]
    assert seen is not None
    assert timedelta() <= seen - timedelta(hours=30) < timedelta(minutes=1)
    assert others == [timedelta.max, None, None]


@pytest.mark.parametrize("how", ["late", "failing"])
async def test_risk_that_does_not_answer_is_a_challenge_never_a_yes(world: World, how: str) -> None:
    if how == "late":
        world.risk_takes_s = 60
    else:
        world.risk_failure = DomainError(ErrorCode.VELOCITY_UNAVAILABLE)
    results = await ask(desk_over(world, risk_limit_s=0.01), [application(world) for _ in range(5)])
    assert {result.code for result in results if isinstance(result, DomainError)} == {ErrorCode.STEP_UP_REQUIRED}
    assert world.absent == 5


async def test_pause_of_this_process_is_no_absence_of_risk(world: World) -> None:
    world.risk_takes_s = 0.001
    desk = desk_over(world, risk_limit_s=0.1)
    asyncio.get_running_loop().call_later(0.0005, time.sleep, 0.15)
    (result,) = await ask(desk, [application(world)])
    assert isinstance(result, VotingToken)
    assert world.absent == 0


async def test_what_waits_is_bounded(world: World) -> None:
    desk = desk_over(world, waiting_max=10)
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in range(10)]
    for future in futures:
        desk.submit(application(world), future.set_result)
    with pytest.raises(DomainError) as raised:
        desk.submit(application(world), lambda _: None)
    assert (raised.value.code, raised.value.retry_after_s) == (ErrorCode.OVERLOADED, 1)
    async with asyncio.timeout(10):
        await asyncio.gather(*futures)
    assert isinstance((await ask(desk, [application(world)]))[0], VotingToken)


async def test_nothing_is_decided_for_whoever_has_gone(world: World) -> None:
    desk, loop = desk_over(world), asyncio.get_running_loop()
    world.gate = asyncio.Event()
    first = [loop.create_future() for _ in range(GROUPS_IN_FLIGHT)]
    for future in first:
        desk.submit(application(world), future.set_result)
        await asyncio.sleep(0)
    gone: asyncio.Future[Result] = loop.create_future()
    waits: asyncio.Future[Result] = loop.create_future()
    desk.submit(replace(application(world), is_wanted=lambda: False), gone.set_result)
    desk.submit(application(world), waits.set_result)
    world.gate.set()
    async with asyncio.timeout(10):
        assert isinstance(await waits, VotingToken)
        refused = await gone
        await asyncio.gather(*first)
    assert isinstance(refused, DomainError)
    assert refused.code is ErrorCode.DEADLINE_EXCEEDED
    assert sum(world.groups) == GROUPS_IN_FLIGHT + 1
