"""Velocity counted here and in Redis: the same counts, and the way from one to the other and back."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from api.eligibility.velocity_risk import ProcessVelocity, VelocityRisk
from api.shared_calls import PAUSE_S
from domain.errors import DomainError, ErrorCode
from domain.ports import AdmissionAttempt, RiskDecision
from domain.risk import Threshold, Velocity, VelocityCounter
from domain.tokens import RiskBand
from domain.vote_risk import CURRENT_VOTE_POLICY
from integrations.redis.connection import open_redis
from integrations.redis.velocity import RedisVelocity
from tests.conftest import SettingsFor

POLICY = replace(CURRENT_VOTE_POLICY, device_voters_per_hour=Threshold(3, 5))


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.at = 1_790_000_000.0 // 3600 * 3600

    def __call__(self) -> float:
        return self.at


def attempt(voter: bytes = b"", device: bytes | None = None, network: bytes = b"n") -> AdmissionAttempt:
    return AdmissionAttempt("s_1", voter or secrets.token_bytes(16), device, network, RiskBand.LOW)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def redis(settings_for: SettingsFor) -> AsyncIterator[Redis]:
    client = open_redis(settings_for().cells["eu"].redis)
    yield client
    await client.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["process", "redis"])
def counter(request: pytest.FixtureRequest, redis: Redis, clock: Clock) -> VelocityCounter:
    if request.param == "process":
        return ProcessVelocity(device_voters_max=1000, now=clock)
    return RedisVelocity(redis, f"test-{secrets.token_hex(4)}", now=clock)


async def test_counts(counter: VelocityCounter) -> None:
    found = await counter.observe(
        [
            attempt(b"a", b"d"),
            attempt(b"a", b"d"),
            attempt(b"b", b"d"),
            attempt(b"c", b"e", b"m"),
            attempt(b"a"),
        ]
    )
    assert list(found) == [
        Velocity(1, 1, 1),
        Velocity(2, 1, 2),
        Velocity(1, 2, 3),
        Velocity(1, 1, 1),
        Velocity(3, 0, 4),
    ]
    assert list(await counter.observe([attempt(b"c", b"d")])) == [Velocity(2, 3, 5)]
    assert list(await counter.observe([])) == []


async def test_windows_pass(counter: VelocityCounter, clock: Clock) -> None:
    await counter.observe([attempt(b"a", b"d"), attempt(b"b", b"d")])
    clock.at += 60
    assert list(await counter.observe([attempt(b"a", b"d")])) == [Velocity(1, 2, 1)]
    clock.at += 3600
    assert list(await counter.observe([attempt(b"a", b"d")])) == [Velocity(1, 1, 1)]


async def test_voters_kept_of_one_device_are_bounded(counter: VelocityCounter) -> None:
    found = await counter.observe([attempt(number.to_bytes(16, "big"), b"d") for number in range(1, 1500)])
    assert max(velocity.device_voters for velocity in found) == 1000


async def test_what_redis_keeps_expires_and_is_pseudonymous(redis: Redis) -> None:
    cell = f"test-{secrets.token_hex(4)}"
    await RedisVelocity(redis, cell).observe([attempt(b"voter", b"device", b"network")])
    keys = [key async for key in redis.scan_iter(f"{cell}:*", count=1000)]
    assert len(keys) == 3
    for key in keys:
        assert key.startswith(f"{cell}:velocity:".encode())
        assert 0 < await redis.ttl(key) <= 7200


async def test_script_survives_a_redis_that_forgot_it(redis: Redis) -> None:
    counter = RedisVelocity(redis, f"test-{secrets.token_hex(4)}")
    await counter.observe([attempt()])
    await redis.script_flush()
    assert (await counter.observe([attempt()]))[0].network_attempts == 2


def test_process_forgets_the_longest_unseen_first(clock: Clock) -> None:
    counter = ProcessVelocity(kept_max=10, now=clock)

    async def run() -> None:
        await counter.observe([attempt(bytes([number]), bytes([number]), bytes([number])) for number in range(10)])
        await counter.observe([attempt(b"\x00", b"\x00", b"\x00"), attempt(b"new", b"new", b"new")])
        found = await counter.observe([attempt(b"\x00", b"\x00", b"\x00"), attempt(b"\x01", b"\x01", b"\x01")])
        assert [velocity.voter_attempts for velocity in found] == [3, 1]
        for kept in (counter._voters, counter._devices, counter._networks):
            assert len(kept) == 10

    asyncio.run(run())


class Shared:
    """A shared counter that a test can break."""

    def __init__(self) -> None:
        self.calls = 0
        self.failure: str = ""
        self.may_end = asyncio.Event()

    async def observe(self, attempts: Sequence[AdmissionAttempt]) -> list[Velocity]:
        self.calls += 1
        if self.failure == "late":
            await asyncio.sleep(60)
        if self.failure == "slow to give up":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await self.may_end.wait()
        if self.failure:
            raise DomainError(ErrorCode.VELOCITY_UNAVAILABLE)
        return [Velocity(1, 0, 1) for _ in attempts]


@pytest.mark.parametrize("failure", ["down", "late", "slow to give up"])
async def test_process_counts_while_the_shared_counter_is_away(failure: str, clock: Clock) -> None:
    shared = Shared()
    risk = VelocityRisk(shared, ProcessVelocity(now=clock), POLICY, limit_s=0.02, now=clock)
    assert (await risk.assess([attempt()]))[0].decision is RiskDecision.ALLOW
    assert not risk.is_degraded
    shared.failure = failure
    decisions = []
    for _ in range(6):
        decisions += [verdict.decision for verdict in await risk.assess([attempt(device=b"d")])]
    assert risk.is_degraded
    assert decisions == [RiskDecision.ALLOW] * 2 + [RiskDecision.CHALLENGE] * 2 + [RiskDecision.DENY] * 2
    assert shared.calls == 2, "a failed counter is left alone for a while"
    shared.failure = ""
    shared.may_end.set()
    clock.at += PAUSE_S
    assert (await risk.assess([attempt()]))[0].decision is RiskDecision.ALLOW
    assert not risk.is_degraded
    # what was counted here meanwhile is not forgotten because the others did not see it
    assert (await risk.assess([attempt(device=b"d")]))[0].decision is RiskDecision.DENY


async def test_what_the_directory_knows_of_the_device_is_judged_with_the_velocity(clock: Clock) -> None:
    risk = VelocityRisk(Shared(), ProcessVelocity(now=clock), POLICY, now=clock)
    calm, rooted = attempt(), replace(attempt(), device_flags=frozenset({"rooted"}))
    verdicts = await risk.assess([calm, rooted])
    assert [verdict.decision for verdict in verdicts] == [RiskDecision.ALLOW, RiskDecision.DENY]
    assert verdicts[1].reasons == ("device_refused", "rooted")


async def test_what_other_processes_counted_counts_here(redis: Redis, clock: Clock) -> None:
    cell = f"test-{secrets.token_hex(4)}"
    processes = [
        VelocityRisk(RedisVelocity(redis, cell, now=clock), ProcessVelocity(now=clock), POLICY, limit_s=10, now=clock)
        for _ in range(2)
    ]
    decisions = []
    for turn in range(6):
        (verdict,) = await processes[turn % 2].assess([attempt(device=b"d")])
        decisions.append(verdict.decision)
    assert decisions == [RiskDecision.ALLOW] * 2 + [RiskDecision.CHALLENGE] * 2 + [RiskDecision.DENY] * 2
